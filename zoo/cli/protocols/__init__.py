"""The protocols of `lightning evaluate`: each is a name, the networks that look, and a function that measures.

`base` says what a protocol is, `reading` reads and translates pictures; `distances` measures sets of pictures, `pictures` single
ones, `scenes` rendered ones whose truth is known, and `rooms` what particular papers measure. The numbers themselves are computed in
`zoo.metrics`.
"""
