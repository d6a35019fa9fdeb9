-- Begins a lease anew. KEYS: record. ARGV: owner, lease. Returns 1 if it ran.
local now = now_ms()
local standing = read(KEYS[1])
if not standing or standing.owner ~= ARGV[1] or standing.state ~= IN_FLIGHT or is_lapsed(standing, now) then return 0 end
local ends_at = now + tonumber(ARGV[2])
-- First what a server that is out of memory allows: a script that has written may go on.
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends_at + standing.ttl))
redis.call('SETRANGE', KEYS[1], 27, struct.pack('>I8', ends_at))
return 1
