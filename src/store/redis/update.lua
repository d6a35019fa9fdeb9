-- Settles a key. KEYS: record, open. ARGV: owner, state, ttl, outcome, id, channel.
-- Returns {now, expires_at, claim} if it was made, {now, 0, bytes} if something stands there already, {now, nil, nil} if
-- another owner or none does.
local now = now_ms()
local standing = read(KEYS[1])
if not standing or standing.owner ~= ARGV[1] then return {now, false, false} end
local state = tonumber(ARGV[2])
local open = standing.state == IN_FLIGHT and not is_lapsed(standing, now)
if not (open or (standing.state ~= COMPLETED and state == COMPLETED)) then return {now, 0, standing.bytes} end
local expires_at = now + tonumber(ARGV[3])
local awaited, claim = is_awaited(standing), standing.bytes:sub(HEAD_BYTES + 1, HEAD_BYTES + standing.claim_bytes)
standing.state, standing.ends_at = state, expires_at
if awaited then standing.flags = standing.flags - AWAITED end
-- First what a server that is out of memory allows: a script that has written may go on, so that what runs is recorded.
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires_at))
write(KEYS[1], standing, standing.bytes:sub(HEAD_BYTES + 1) .. struct.pack('>I4', #ARGV[4]) .. ARGV[4], expires_at)
if state == COMPLETED then redis.call('ZREM', KEYS[2], ARGV[5]) end
if awaited then publish(ARGV[6], 's' .. ARGV[5]) end
return {now, expires_at, claim}
