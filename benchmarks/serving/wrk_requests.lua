-- Send image files in turn: wrk -s wrk_requests.lua URL -- FORM FILES...
-- FORM is the name of the form field, or - for the bytes without a form. The last line of the output is JSON:
-- requests, errors by kind, seconds, latencies in microseconds.

local requests, turn = {}, 0

function init(arguments)
  local form = arguments[1]
  local boundary = "----serving"
  for i = 2, #arguments do
    local file = assert(io.open(arguments[i], "rb"))
    local body = file:read("*a")
    local kind = body:sub(2, 4) == "PNG" and "image/png" or "image/jpeg"
    file:close()
    if form ~= "-" then
      body = "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"" .. form .. "\"; filename=\"image\"\r\n"
        .. "Content-Type: " .. kind .. "\r\n\r\n" .. body .. "\r\n--" .. boundary .. "--\r\n"
      kind = "multipart/form-data; boundary=" .. boundary
    end
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = kind }, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.0f, "p90": %.0f, "p99": %.0f, "max": %.0f, '
      .. '"refused": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
