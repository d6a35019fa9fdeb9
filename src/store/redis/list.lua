-- Lists what is in flight or unknown. KEYS: open. ARGV: prefix of the records, claimed_at and id to begin after, limit.
-- Returns {now, id, bytes, id, bytes, ...}, in the order of claimed_at and id. What is no longer there leaves the index.
local now = now_ms()
local page, offset, limit = {now}, 0, tonumber(ARGV[4])
local after_at, after_id = tonumber(ARGV[2]), ARGV[3]
while true do
  local ids = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', after_at), '+inf', 'WITHSCORES', 'LIMIT', offset, 256)
  local gone = {}
  for i = 1, #ids, 2 do
    local id, score = ids[i], tonumber(ids[i + 1])
    if score > after_at or id > after_id then
      -- A record of a newer build is left out, and stays in the index.
      local is_known, standing = pcall(read, ARGV[1] .. id)
      if is_known and (not standing or standing.state == COMPLETED) then
        gone[#gone + 1] = id
      elseif is_known then
        page[#page + 1] = id
        page[#page + 1] = standing.bytes
        if #page > 2 * limit then break end
      end
    end
  end
  for i = 1, #gone do redis.call('ZREM', KEYS[1], gone[i]) end
  if #ids < 512 or #page > 2 * limit then return page end
  offset = offset + 256 - #gone
end
