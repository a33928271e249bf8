-- Sets the expiry of a sketch that has none, for example because a collapse was interrupted.
-- OK.
expire({hll}, expiry, false)
return {'OK'}
