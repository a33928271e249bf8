#!lua flags=no-writes
-- Names the commands and keys that the user is not allowed. A server looks at rights before it refuses to
-- write from a script that says, as this one does, that it does not: so any command can be tried, and nothing
-- is changed.
-- ARGV: the number of keys; keys that nobody uses; commands, with their subcommands as in 'cluster|slots'.
-- Replies with a line for each that is denied: a command behind +, a key behind ~.
local MOST_ARGUMENTS = 4

-- The error of a command, called with as many arguments as it wants: before that, rights are not looked at.
local function refusal(command, key)
  local words = {}
  for word in string.gmatch(command, '[^|]+') do words[#words + 1] = word end
  local message
  for _ = 0, MOST_ARGUMENTS do
    local reply = redis.pcall(unpack(words))
    message = type(reply) == 'table' and reply.err or ''
    if not string.find(message, 'umber of arg', 1, true) then break end
    words[#words + 1] = key
  end
  return message
end

local keys, denied, lines = tonumber(ARGV[1]), {}, {}

local function deny(what)
  if not denied[what] then lines[#lines + 1] = what end
  denied[what] = true
end

for i = keys + 2, #ARGV do
  for j = 2, keys + 1 do
    local message = refusal(ARGV[i], ARGV[j])
    if string.find(message, "can't run", 1, true) or string.find(message, 'permissions to run', 1, true) then
      deny('+' .. ARGV[i])
    elseif string.find(message, "can't access", 1, true) or string.find(message, 'access a key', 1, true) then
      deny('~' .. ARGV[j])
    end
  end
end
return table.concat(lines, '\n')
