-- Changes places in a caller's share. KEYS: share. ARGV, for each: the place, the time that has to stand there or '', what
-- is to stand there: '' for nothing, else in how many ms the entry is gone, with '.5' behind it if it was settled.
local now = now_ms()
for i = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and (ARGV[i + 1] == '' or ARGV[i + 1] == score) then
    if ARGV[i + 2] == '' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      local gone_in = tonumber(ARGV[i + 2])
      -- First what a server that is out of memory allows: a script that has written may go on.
      local expires_at = now + math.max(redis.call('PTTL', KEYS[1]), gone_in + 1)
      redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires_at))
      redis.call('ZADD', KEYS[1], string.format('%.1f', now + gone_in), ARGV[i])
    end
  end
end
return 1
