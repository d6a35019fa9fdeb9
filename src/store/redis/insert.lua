-- Claims a key. KEYS: record, open. ARGV: owner, lease, ttl, claim, replaces or '', id, how many bytes may come back,
-- flags.
-- Returns {now, nil, nil} if the claim stands, or {now, bytes of what stands there, their number}: cut to head and claim if there
-- are too many.
local now = now_ms()
local standing = read(KEYS[1])
local ends_at = now + tonumber(ARGV[2])
if standing then
  local lapsed = is_lapsed(standing, now)
  if standing.owner == ARGV[1] and standing.state == IN_FLIGHT and not lapsed then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends_at + standing.ttl))
    redis.call('SETRANGE', KEYS[1], 27, struct.pack('>I8', ends_at))
    return {now, false, false}
  end
  if standing.owner ~= ARGV[5] or not (lapsed or standing.state == UNKNOWN) then
    return {now, at_most(standing, tonumber(ARGV[7])), #standing.bytes}
  end
end
local ttl = tonumber(ARGV[3])
write(KEYS[1], {
  state = IN_FLIGHT, flags = tonumber(ARGV[8]), owner = ARGV[1], claimed_at = now, ends_at = ends_at, ttl = ttl, claim_bytes = #ARGV[4],
}, ARGV[4], ends_at + ttl)
redis.call('ZADD', KEYS[2], now, ARGV[6])
return {now, false, false}
