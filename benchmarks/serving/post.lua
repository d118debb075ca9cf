-- wrk's script: POST the files named in $BODIES (one a line, by turns) with the headers in $HEADERS
-- ("Name: value", one a line); ends with one line of numbers for the caller.
wrk.method = "POST"
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

local bodies = {}
for name in (os.getenv("BODIES") or ""):gmatch("[^\n]+") do
  local file = assert(io.open(name, "rb"))
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
wrk.body = bodies[1]

-- A script with `request` copies every body once more in the client, so one body goes without it.
if #bodies > 1 then
  local requests, turn = {}, 0
  function init()
    for index, body in ipairs(bodies) do
      requests[index] = wrk.format(nil, nil, nil, body)
    end
  end
  function request()
    turn = turn % #requests + 1
    return requests[turn]
  end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout, e.status, latency:percentile(50), latency:percentile(99)))
end
