"""Types that transformers lists for image-text-to-text, and that cannot be aligned as chat models: by name, and why."""

from transformers import PretrainedConfig

ENCODER_DECODER = "an encoder-decoder, whose prompt its answers do not continue"
CAPTIONER = "a captioner, whose prompts have no place for an image among their words"
MARKED = "a model that is told by a mask, not by a token, where its images stand"

REFUSED: dict[str, str] = {
    "blip": CAPTIONER,
    "diffusion_gemma": "a diffusion model, which writes a block at a time and has no log-probs of tokens in order",
    "evolla": "a model of proteins, not of images",
    "florence2": ENCODER_DECODER,
    "git": CAPTIONER,
    "instructblipvideo": "a model of videos only",
    "kosmos-2": MARKED,
    "kosmos-2.5": MARKED,
    "mistral4": "a language model without a vision tower",
    "pi0": "a policy for robots, which gives actions and no text",
    "pix2struct": ENCODER_DECODER,
    "pp_formulanet": ENCODER_DECODER,
    "shieldgemma2": "a classifier of three fixed questions, which gives no answers to prompts",
    "t5gemma2": ENCODER_DECODER,
    "udop": ENCODER_DECODER,
    "vision-encoder-decoder": ENCODER_DECODER,
}


def refusal(config: PretrainedConfig) -> str | None:
    """What a model is that cannot be trained here; None for one that can be tried."""
    if config.is_encoder_decoder or getattr(config.get_text_config(), "is_encoder_decoder", False):
        return ENCODER_DECODER
    return REFUSED.get(config.model_type)
