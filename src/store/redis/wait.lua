-- Asks to be told when a key is settled. KEYS: record. Returns for how many ms its lease runs; 0 if it is not in flight.
local now = now_ms()
local standing = read(KEYS[1])
if not standing or standing.state ~= IN_FLIGHT or is_lapsed(standing, now) then return 0 end
if not is_awaited(standing) then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', standing.ends_at + standing.ttl))
  redis.call('SETRANGE', KEYS[1], 2, string.char(standing.flags + AWAITED))
end
return standing.ends_at - now
