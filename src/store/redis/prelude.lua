-- What every script begins with: the layout of a record and the server's clock.
--
-- A record is a head that scripts read, then the claim and, each after its length, the outcomes (an unknown one, a later
-- known one), which only Oncegate reads. The head's first byte is
-- its format: a script refuses any that it does not know.
local FORMAT, HEAD, HEAD_BYTES = 1, '>BBBc16I8I8I8I4', 47
local IN_FLIGHT, UNKNOWN, COMPLETED = 1, 2, 3
-- Flags: someone waits for the settlement; the entry counts in its caller's share.
local AWAITED, SHARED = 1, 2

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The record under `key`; nil if there is none.
local function read(key)
  local bytes = redis.call('GET', key)
  if not bytes then return nil end
  if #bytes < HEAD_BYTES or bytes:byte(1) ~= FORMAT then
    error('ONCEGATE-FORMAT ' .. (bytes:byte(1) or 0))
  end
  local r = {bytes = bytes}
  r.format, r.state, r.flags, r.owner, r.claimed_at, r.ends_at, r.ttl, r.claim_bytes = struct.unpack(HEAD, bytes)
  return r
end

-- Writes a record that is gone at `expires_at`. An `ends_at` is the lease's end while in flight, and the expiry after.
local function write(key, r, rest, expires_at)
  local head = struct.pack(HEAD, FORMAT, r.state, r.flags, r.owner, r.claimed_at, r.ends_at, r.ttl, r.claim_bytes)
  redis.call('SET', key, head .. rest, 'PXAT', string.format('%.0f', expires_at))
end

-- The claim of an entry that counts in its caller's share; false of any other.
local function shared_claim(r)
  return r.flags >= SHARED and r.bytes:sub(HEAD_BYTES + 1, HEAD_BYTES + r.claim_bytes)
end

-- Tells whoever listens. What was written stands, even if the user may not publish.
local function publish(channel, message)
  redis.pcall('PUBLISH', channel, message)
end

-- The record's bytes, or, if they are more than `limit`, those of its head and claim.
local function at_most(r, limit)
  if #r.bytes <= limit then return r.bytes end
  return r.bytes:sub(1, HEAD_BYTES + r.claim_bytes)
end

local function is_awaited(r)
  return r.flags % 2 == AWAITED
end

local function is_lapsed(r, now)
  return r.state == IN_FLIGHT and now >= r.ends_at
end
