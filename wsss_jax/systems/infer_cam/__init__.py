"""InferCam: the class-conditional response map of a trained classifier."""
