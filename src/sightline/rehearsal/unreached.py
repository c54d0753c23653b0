"""Types of which no small model is compared: by name, and why. It says nothing against training them."""

UNREACHED: dict[str, str] = {
    "blip-2": "its forward takes no prompt without an image",
    "dots3_note": "its layers have sizes of their own by kind, and a small config of them does not pass its own checks",
    "fuyu": "it has no tower: patches go in among the words by an index of their own",
    "idefics": "its output embedding is in two parts, of which log-probs are not computed here",
    "inkling2": "attention with a bias by a token's column, another one in a shared row, and images of its own",
    "inkling_mm_model": "as Inkling 2: a bias by a token's column, and images of its own",
    "instructblip": "its features depend on the question, which its tower reads with the image",
    "nemotron_h_omni": "Mamba-2 layers, whose state is not forked here, and images with a grid of their own",
}
