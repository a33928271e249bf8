-- Stores the count of an aggregate that the client made, if the aggregate's own count is still as it was read.
-- seen: that count, or empty. error_text: the standard error, or empty for the plain formula's. sketch: that
-- of the union, or empty if a source had moves, because a union of sketches cannot tell who left.
-- STORED. CHANGED.
if (redis.call('GET', count) or '') ~= seen then return {'CHANGED'} end
-- A sketch without a count would be taken for one of ids: it is gone soon if a command below is denied.
if sketch == '' then redis.call('DEL', hll) else redis.call('SET', hll, sketch, 'EX', TEMPORARY_S) end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, n)
expire({hll}, expiry, true)
return {'STORED'}
