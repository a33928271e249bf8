-- Gives counts whose sketches were looked at the plain formula's standard error, if theirs is infinite still.
-- KEYS stderr   ARGV fields...
for _, field in ipairs(ARGV) do
  if redis.call('HGET', KEYS[1], field) == 'inf' then redis.call('HDEL', KEYS[1], field) end
end
return 'OK'
