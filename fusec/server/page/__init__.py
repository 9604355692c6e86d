"""The page at `/`: models, groups, queue, attainment, and what lanes run, while somebody looks."""
