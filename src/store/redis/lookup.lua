-- Reads a key. KEYS: record. ARGV: how many bytes may come back. Returns {now, bytes, their number}, cut to head and claim
-- if there are too many, or {now, nil, nil} if there is none.
local standing = read(KEYS[1])
if not standing then return {now_ms(), false, false} end
return {now_ms(), at_most(standing, tonumber(ARGV[1])), #standing.bytes}
