-- What wrk sends: one POST after another, each with an Idempotency-Key.
--
-- Arguments after `--`: the request up to the key; the request from the key on; a prefix that no other run uses; how many
-- keys there are (0: every request has a key of its own); after how many requests to stop (0: when the time is over).

local threads = 0

function setup(thread)
   thread:set("thread_number", threads)
   threads = threads + 1
end

function init(args)
   before, after, prefix = args[1], args[2], args[3]
   keys, limit = tonumber(args[4]), tonumber(args[5])
   sent = 0
   prefix = prefix .. thread_number .. "-"
   if keys > 0 then
      prefix = args[3]
   end
end

function request()
   local number = sent
   sent = sent + 1
   if limit > 0 and sent >= limit then
      wrk.thread:stop()
   end
   if keys > 0 then
      number = number % keys
   end
   return before .. prefix .. number .. after
end

-- One line for the harness; what wrk itself prints is for people.
function done(summary)
   local errors = summary.errors
   io.write(string.format("result %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
