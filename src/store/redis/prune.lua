-- Takes what has expired out of the index. KEYS: open. ARGV: prefix of the records, rank to begin at.
-- Returns {how many were taken out, rank to go on at, or nil at the end}.
local from, batch = tonumber(ARGV[2]), 256
local ids = redis.call('ZRANGE', KEYS[1], from, from + batch - 1)
local gone = {}
for i = 1, #ids do
  if redis.call('EXISTS', ARGV[1] .. ids[i]) == 0 then gone[#gone + 1] = ids[i] end
end
for i = 1, #gone do redis.call('ZREM', KEYS[1], gone[i]) end
if #ids < batch then return {#gone, false} end
return {#gone, from + batch - #gone}
