-- Frees a key. KEYS: record, open. ARGV: owner, id, channel. Returns {1, claim} if the owner stood
-- there (the claim where it counts in a share, else nil), {0, nil} if not.
local standing = read(KEYS[1])
if not standing or standing.owner ~= ARGV[1] then return {0, false} end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
-- Those who wait for it are told, and those who keep a copy.
if is_awaited(standing) or standing.state == COMPLETED then publish(ARGV[3], 'r' .. ARGV[2]) end
return {1, shared_claim(standing)}
