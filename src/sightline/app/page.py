"""The page: an image, a question, and a column for each model, served on this machine only."""

import os
from collections.abc import Iterator, Sequence
from html import escape

# before gradio is imported: it would report its use and look for updates
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr
from PIL import Image

from sightline.app.answers import Answer, answers
from sightline.errors import UserError
from sightline.evaluation.models import Models
from sightline.report.comparison import word_difference

ADDRESS = "127.0.0.1"
STYLE = """
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 14px; }
.answers article { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 14px 16px; }
.answers article { min-height: 96px; }
.answers h3 { margin: 0 0 6px; font-size: 0.95rem; }
.answers p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.answers small { color: var(--body-text-color-subdued); font-weight: 400; margin-left: 6px; }
.answers ins { text-decoration: none; box-shadow: inset 0 -2px #2563eb; }
.answers .writing::after { content: "▌"; opacity: 0.5; }
"""


def build(models: Models, labels: Sequence[str]) -> gr.Blocks:
    """The app, not yet served."""
    with gr.Blocks(title="Sightline comparison", analytics_enabled=False) as page:
        gr.Markdown(f"## {' · '.join(labels)}\nGreedy answers. Underlined: not said by **{labels[0]}**.")
        with gr.Row():
            upload = gr.Image(type="pil", label="Image", height=320, sources=["upload", "clipboard"], scale=1)
            with gr.Column(scale=2):
                question = gr.Textbox(label="Question", value="Describe this image.", elem_id="question")
                longest = gr.Slider(8, 512, value=128, step=8, label="Longest answer, tokens", elem_id="longest")
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
        shown = gr.HTML(columns([Answer(label, done=True) for label in labels]), elem_id="answers")

        def run(image: Image.Image | None, text: str, tokens: float | int) -> Iterator[str]:
            yield from respond(models, labels, image, text, int(tokens))

        # one at a time: the models take turns on one set of weights
        for event in (ask.click, question.submit):
            event(run, [upload, question, longest], shown, concurrency_limit=1, concurrency_id="models")
    return page


def respond(models: Models, labels: Sequence[str], image: Image.Image | None, text: str, tokens: int) -> Iterator[str]:
    """The columns as HTML, after every token; a mistake of the user's becomes a notice on the page."""
    if not text.strip():
        raise gr.Error("Write a question first.", print_exception=False)
    try:
        for said in answers(models, labels, image, text.strip(), max_new_tokens=tokens):
            yield columns(said)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def columns(said: Sequence[Answer]) -> str:
    """The answers side by side; once all are done, words that the first model did not say are underlined."""
    finished = all(answer.done for answer in said)
    return f'<div class="answers">{"".join(_column(answer, said[0], finished) for answer in said)}</div>'


def _column(answer: Answer, first: Answer, finished: bool) -> str:
    text = escape(answer.text)
    if finished and answer is not first:
        pieces = [p for p in word_difference(answer.text, first.text) if p.change != "gone"]
        text = " ".join(f"<ins>{escape(p.text)}</ins>" if p.change == "new" else escape(p.text) for p in pieces)
    speed = f"<small>{len(answer.tokens)} tokens, {answer.seconds:.1f} s</small>" if answer.tokens else ""
    state = "" if answer.done else ' class="writing"'
    return f"<article><h3>{escape(answer.label)}{speed}</h3><p{state}>{text}</p></article>"


def serve(models: Models, labels: Sequence[str], *, port: int | None, block: bool = True) -> str:
    """Serve the page on 127.0.0.1 until interrupted; returns its address, at once where `block` is off."""
    page = build(models, labels)
    _, address, _ = page.queue().launch(
        server_name=ADDRESS,
        server_port=port,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
        footer_links=[],
    )
    print(f"Open {address} (Ctrl-C stops it)", flush=True)
    if block:
        page.block_thread()
    return address
