"""WaveCAM, multi-stage: a classifier learns with a predictor that sees its maps mixed as waves."""
