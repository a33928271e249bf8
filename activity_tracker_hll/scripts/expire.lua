-- Gives a sketch the expiry that it lacks: of a collapse that was cut short, say.
-- OK.
expire({hll}, expiry, false)
return {'OK'}
