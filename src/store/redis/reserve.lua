-- Takes a place in a caller's share. KEYS: share. ARGV: place (id and owner), bound, lease, ttl, the
-- place that it takes over or ''.
--
-- A share names the caller's claims, each with the time from which its entry may be gone. One that was settled is gone at that
-- time, which half a ms marks; of any other its record has to be asked. Returns {1} if the claim has its place, or {0, place,
-- time, place, time, ...}: there is none, and these are to be asked for.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', 0, 64)
local open = {0}
for i = 1, #due, 2 do
  if tonumber(due[i + 1]) % 1 == 0.5 then
    redis.call('ZREM', KEYS[1], due[i])
  else
    open[#open + 1] = due[i]
    open[#open + 1] = due[i + 1]
  end
end
-- What is taken over is given back a moment later.
local had = redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZSCORE', KEYS[1], ARGV[5])
if not had and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return open end
local ends_at = now + tonumber(ARGV[3])
redis.call('ZADD', KEYS[1], string.format('%.0f', ends_at), ARGV[1])
local expires_at = ends_at + tonumber(ARGV[4])
if redis.call('PTTL', KEYS[1]) < expires_at - now then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires_at))
end
return {1}
