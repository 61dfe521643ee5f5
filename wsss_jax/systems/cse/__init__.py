"""OC-CSE: class-specific adversarial erasing."""
