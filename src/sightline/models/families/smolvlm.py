"""SmolVLM: the ordinary case, but for the dtype of its features."""

from sightline.models.families.family import Family


class SmolVLMFamily(Family):
    """transformers casts features to the dtype of the model's first weight, which is the tower's.

    With the tower in bfloat16 beside a language model in float32, merging them fails; so the tower follows.
    """

    features_take_tower_dtype = True
