-- What wrk sends: one POST after another, each with an Idempotency-Key.
--
-- Arguments after `--`: the request up to the key; the request from the key on; a prefix that no other run uses; how many
-- keys there are (0: every request has a key of its own).

local threads = 0

function setup(thread)
   thread:set("thread_number", threads)
   threads = threads + 1
end

function init(args)
   before, after, prefix, keys = args[1], args[2], args[3], tonumber(args[4])
   sent = 0
   if keys == 0 then
      prefix = prefix .. thread_number .. "-"
   end
end

function request()
   local number = sent
   sent = sent + 1
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
