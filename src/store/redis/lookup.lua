-- Reads a key. KEYS: record. Returns {now, bytes}, or {now, nil} if there is none.
local standing = read(KEYS[1])
if not standing then return {now_ms(), false} end
return {now_ms(), standing.bytes}
