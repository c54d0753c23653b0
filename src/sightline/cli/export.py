"""`sightline export RUN FOLDER [--dtype D] [--push-to-hub USER/NAME]`."""

from sightline.cli.arguments import Arguments, add_trust_flag, file_name, new_name

DESCRIPTION = """Merge a run's adapter into its base, check that the merged model says the same, and write model,
processor, generation config and model card into a folder that plain transformers and vLLM load."""


def run(argv: list[str]) -> int:
    """Write the folder, and push it where asked."""
    arguments = Arguments("export", DESCRIPTION)
    arguments.add_argument("run", metavar="RUN", type=file_name, help="folder of a finished run, or of a peft adapter")
    arguments.add_argument("folder", metavar="FOLDER", type=new_name, help="a new folder")
    arguments.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"], help="[bfloat16]")
    arguments.add_argument("--device", default="cpu", help="where it is merged [cpu]")
    arguments.add_argument("--push-to-hub", metavar="USER/NAME", help="upload the folder to the hub, too")
    arguments.add_argument("--private", action="store_true", help="as a private repository")
    arguments.add_argument("--json", action="store_true", help="print what was written as JSON and nothing else")
    add_trust_flag(arguments)
    given = arguments.parse(argv)
    if given.private and not given.push_to_hub:
        arguments.error("--private is for --push-to-hub")

    import json

    from rich.console import Console

    from sightline.cli.terminal import quiet

    quiet()
    from sightline.export.export import check_hub_name, export, push

    if given.push_to_hub:
        check_hub_name(given.push_to_hub)
    console = Console(stderr=given.json)
    folder = given.folder
    exported = export(
        given.run,
        folder,
        dtype=given.dtype,
        device=given.device,
        console=console,
        name=given.push_to_hub,
        trust_remote_code=given.trust_remote_code,
    )
    address = push(folder, given.push_to_hub, private=given.private) if given.push_to_hub else None
    if address is not None:
        console.print(f"Pushed to {address}", highlight=False, soft_wrap=True)
    if given.json:
        agreement = {**exported.agreement._asdict(), "dtype": given.dtype}
        print(json.dumps({"folder": str(folder), "address": address, "agreement": agreement}))
    return 0
