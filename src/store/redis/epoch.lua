-- Sets an epoch where there is none, and returns what stands there. KEYS: epoch. ARGV: epoch.
--
-- It is set twice, so that the server's file has it as it has the records: in a transaction. A server that drops those when it
-- reads its file drops the epoch as well, and is found out.
if redis.call('SET', KEYS[1], ARGV[1], 'NX') then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('GET', KEYS[1])
