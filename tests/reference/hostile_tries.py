"""Tries what strangers' files, systems and hands do to the commands, and prints how many of how many tries were handled well.

A try is handled well when the command ends by itself in time and within its memory, with exit status 0, 1, 2 or 130, without the words of a
panic, with an error that names something, without raw control characters on its outputs, and without an unfinished file left behind.

    python tests/reference/hostile_tries.py target/release --scratch FOLDER [--only configs,files,...] [--tries 2000] [--failures FILE]

The miniature model is made by the `miniature` example of the same build (`cargo build --release --example miniature`). Linux only.
"""

import argparse
import collections
import copy
import http.server
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SECONDS, MEGABYTES = 2.0, 300
LAYER = "up-level3-repeat2-res-out"
NETWORKS = {"unet": "unet/config.json", "vae": "vae/config.json", "text_encoder": "text_encoder/config.json"}
OTHERS = ["scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "model_index.json"]
VALUES = [
    0, 1, -1, 2, 3, 7, 1 << 16, 1_000_000, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 70, 0.5, -0.0, 1e300, 1e-300,
    None, True, False, "", "silu", "a" * 5000, "\x1b[31mred\u009b\u202e", "\u0000", [], {}, [0], [1 << 40] * 4, [10**9] * 4, [None], [[1]], {"a": 1},
    [1] * 10000, ["x"] * 4, [16, 32, 64, 64], [64] * 17,
]  # fmt: skip


class Tries:
    def __init__(self, build, scratch, failures):
        self.build, self.scratch, self.failures = pathlib.Path(build).resolve(), pathlib.Path(scratch).resolve(), failures
        self.counts = collections.OrderedDict()
        self.slowest, self.largest = 0.0, 0

    def run(self, group, what, command, *, limits=None, environment=None, act=None, seconds=SECONDS, good=(0, 1, 2, 130), watched=(), silent=False):
        """One try; `act(process)` may do something to it meanwhile, `silent` where nobody can see its errors. Returns status and outputs."""
        shutil.rmtree(self.scratch / "out", ignore_errors=True)
        begin = time.monotonic()
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        set_limits = (lambda: [resource.setrlimit(which, (value, value)) for which, value in limits]) if limits else None
        env = dict(os.environ, RAYON_NUM_THREADS="2", HF_HUB_OFFLINE="1") | (environment or {})
        env = {name: value for name, value in env.items() if value is not None}
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, preexec_fn=set_limits, cwd=self.scratch
        )
        if act:
            act(process)
        status, usage = None, None
        while status is None:
            pid, code, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                status = os.waitstatus_to_exitcode(code)
            elif time.monotonic() - begin > 15 * seconds:
                process.kill()
                _, _, usage = os.wait4(process.pid, 0)
                status = "hangs"
            else:
                time.sleep(0.002)
        process.returncode = status if isinstance(status, int) else -9
        # Processor time: the machine may do other things as well. What waits for ever is killed above.
        took = usage.ru_utime + usage.ru_stime
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()
        self.judge(group, what, command, status, texts, took, usage.ru_maxrss // 1024, seconds, good, watched, silent)
        return status, texts

    def judge(self, group, what, command, status, texts, took, megabytes, seconds, good, watched, silent):
        faults = []
        both = "".join(texts)
        if status not in good:
            faults.append(f"status {status}")
        if "panicked" in both or "RUST_BACKTRACE" in both:
            faults.append("panic")
        if took > seconds:
            faults.append(f"{took:.1f} s")
        if megabytes > MEGABYTES:
            faults.append(f"{megabytes} MB")
        if status in (1, 2) and not silent and "error" not in texts[1]:
            faults.append("no error")
        if any(ord(c) < 32 and c not in "\n\t\r" or 0x7F <= ord(c) < 0xA0 or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068" for c in both):
            faults.append("control characters")
        left = [str(path) for folder in watched for path in pathlib.Path(folder).rglob(".unfinished-*")]
        if left:
            faults.append(f"left {left[0]}")
        self.slowest, self.largest = max(self.slowest, took), max(self.largest, megabytes)
        tried, well = self.counts.get(group, (0, 0))
        self.counts[group] = (tried + 1, well + (not faults))
        if faults and self.failures:
            self.failures.write(f"{group} | {what} | {', '.join(faults)} | {' '.join(map(str, command))} | {texts[1][-300:]!r}\n")
            self.failures.flush()

    def program(self, name):
        return self.build / name

    def extract(self, model, images, output, *more):
        layers = self.scratch / "layers.json"
        layers.write_text(json.dumps([LAYER]))
        return [self.program("extract"), "--model", model, "--input_dir", images, "--img_size", 64, "--layer", layers, "--t", 50, "--prompt",
                "a cat", "--output_dir", output, "--overwrite", *more]  # fmt: skip

    def train(self, model, data, output, *more):
        return [self.program("train"), "--pretrained_model_name_or_path", model, "--train_data_dir", data, "--output_dir", output,
                "--resolution", 64, "--max_train_steps", 1, "--network_dim", 1, *more]  # fmt: skip


def linked(model, copy_of):
    """A copy of a model folder out of links, whose files can be replaced."""
    for path in sorted(model.rglob("*")):
        place = copy_of / path.relative_to(model)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.symlink_to(path)
    return copy_of


def replace(folder, name, content):
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def mutated(rng, config):
    """One to three entries of a configuration changed, removed or added; says what."""
    config, said = copy.deepcopy(config), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        key, value = rng.choice(list(config) or ["a"]), copy.deepcopy(rng.choice(VALUES))
        if rng.random() < 0.07:
            config.pop(key, None)
            said.append(f"-{key}")
            continue
        if rng.random() < 0.05:
            key = rng.choice(["addition_embed_type", "num_attention_heads", "sample_size", "layer_norm_eps", "rank", "\u202e"])
        if isinstance(config.get(key), list) and config[key] and rng.random() < 0.5:
            config[key][rng.randrange(len(config[key]))] = value
        else:
            config[key] = value
        said.append(f"{key}={json.dumps(value)[:40]}")
    return config, ", ".join(said)


def configs(tries, model, images, count):
    rng = random.Random(14)
    folder = linked(model, tries.scratch / "mutated")
    names = list(NETWORKS.values()) + [name for name in OTHERS if (model / name).exists()]
    originals = {name: json.loads((model / name).read_text()) for name in names}
    for number in range(count):
        name = names[number % len(names)]
        config, said = mutated(rng, originals[name])
        replace(folder, name, config)
        tries.run("configurations", f"{name}: {said}", tries.extract(folder, images, tries.scratch / "out"))
        replace(folder, name, originals[name])
    for name in names:
        text = (model / name).read_bytes()
        for number in range(20):
            damaged = bytearray(text)
            for _ in range(rng.choice([1, 3])):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            cut = damaged[: rng.randrange(len(damaged))] if number % 2 else damaged
            replace(folder, name, bytes(cut))
            tries.run("damaged configurations", f"{name} {number}", tries.extract(folder, images, tries.scratch / "out"))
        replace(folder, name, originals[name])


def special(place, kind):
    """Puts something that is no regular file at `place`."""
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(place.parent)
            server.bind(place.name)
            os.chdir(here)
    elif kind == "folder":
        place.mkdir()
    elif kind == "nothing":
        place.symlink_to("not-there")
    elif kind == "circle":
        place.symlink_to(place.name)
    else:
        place.symlink_to(kind)


KINDS = ["pipe", "socket", "/dev/zero", "/dev/null", "/dev/tty", "/dev/urandom", "folder", "nothing", "circle", "/proc/self/mem"]


def files(tries, model, images):
    names = list(NETWORKS.values()) + OTHERS + ["tokenizer/vocab.json", "tokenizer/merges.txt", "unet/diffusion_pytorch_model.safetensors",
             "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]  # fmt: skip
    out = tries.scratch / "out"
    for kind in KINDS:
        name = kind.strip("/").replace("/", "-")
        for file in names:
            folder = linked(model, tries.scratch / f"special-{name}-{file.replace('/', '-')}")
            if not (folder / file).is_symlink():
                continue
            special(folder / file, kind)
            tries.run("special files in a model", f"{kind} as {file}", tries.extract(folder, images, out))
        place = tries.scratch / f"input-{name}"
        place.mkdir()
        special(place / "a.png", kind)
        tries.run("special files as images", kind, tries.extract(model, place, out))
        data = tries.scratch / f"data-{name}" / "1_cat"
        data.mkdir(parents=True)
        shutil.copy(next(images.iterdir()), data / "b.png")
        special(data / "a.png", kind)
        tries.run("special files as images", f"train, {kind}", tries.train(model, data.parent, out))
        (data / "a.png").rename(data / "b.txt") if kind != "folder" else (data / "b.txt").mkdir()
        tries.run("special files as captions", f"train, {kind}", tries.train(model, data.parent, out))
        given = tries.scratch / f"given-{name}"
        special(given, kind)
        for option in (["--config", given], ["--lora", given], ["--layer", given], ["--prompt-file", given]):
            command = [word for word in tries.extract(model, images, out)]
            if option[0] == "--prompt-file":
                at = command.index("--prompt")
                command[at : at + 2] = []
            tries.run("special files as options", f"extract {option[0]} {kind}", command + option)
        for option in ("--config_file", "--dataset_config", "--network_weights", "--sample_prompts", "--vae", "--resume"):
            tries.run("special files as options", f"train {option} {kind}", tries.train(model, data.parent, out, option, given))
        for command in ("inspect", "kohya"):
            more = [tries.scratch / "x.safetensors"] if command == "kohya" else []
            tries.run("special files as options", f"convert {command} {kind}", [tries.program("convert"), command, given, *more])


NAMES = ["a\x1b[31mb.png", "\u202egnp.exe.png", "\u009b31m.png", "a\nerror: forged.png", b"\xff\xfe.png", "a" * 250 + ".png", "-rf.png", "...png", " .png",
         "%s%n.png", "a\tb.png", "caf\u0065\u0301.png", "\u0000"[:0] + "\x7f.png", "'; rm -rf x.png", "[a-.png", "**.png", "{folder}.png", "con.png"]  # fmt: skip


def names(tries, model, images):
    picture = next(images.iterdir()).read_bytes()
    for number, name in enumerate(NAMES):
        for content in (picture, b"no image"):
            folder = tries.scratch / f"names-{number}-{len(content)}"
            folder.mkdir()
            (folder / os.fsdecode(name)).write_bytes(content)
            out = folder.with_suffix(".out")
            tries.run("names", repr(name), tries.extract(model, folder, out))
            tries.run("names", repr(name), tries.extract(model, folder, out, "--use-original-filename"))
            inside = tries.scratch / f"names-{number}-{len(content)}-train" / "1_cat"
            shutil.copytree(folder, inside)
            tries.run("names", f"train {name!r}", tries.train(model, inside.parent, out))


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that serves a folder slowly."""

    root, pause, revision = pathlib.Path(), 0.0, "0" * 40

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        if self.path.startswith("/api/"):
            found = [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]
            body = json.dumps({"sha": self.revision, "siblings": [{"rfilename": name} for name in found]}).encode()
            etag = "listing"
        else:
            path = self.root / self.path.split(f"/resolve/{self.revision}/")[-1]
            body, etag = path.read_bytes(), "x" * 8 + path.name
        start = int(self.headers.get("range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("etag", f'"{etag}"')
        self.send_header("content-length", str(len(body) - start))
        if start:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        try:
            for at in range(start, len(body) if with_body else 0, 8192):
                self.wfile.write(body[at : at + 8192])
                time.sleep(self.pause)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def signals(tries, model, images):
    Hub.root, Hub.pause = model, 0.02
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out = tries.scratch / "out-signals"
    for number in range(24):
        which = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP][number % 3]
        home = tries.scratch / f"hub-{number}"
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(home), "HF_HUB_OFFLINE": None}

        def act(process, wait=0.05 + 0.03 * number, which=which):
            time.sleep(wait)
            os.kill(process.pid, which)  # send_signal would reap a process that has ended

        tries.run("signals while downloading", f"{which.name} {number}", tries.extract("some/model", images, out), environment=environment, act=act,
                  good=(0, 130, -1, 129), watched=[out])  # fmt: skip
    server.shutdown()
    for number in range(16):
        which = [signal.SIGINT, signal.SIGTERM][number % 2]

        def act(process, wait=0.02 + 0.02 * number, which=which):
            time.sleep(wait)
            os.kill(process.pid, which)  # send_signal would reap a process that has ended

        tries.run("signals while computing", f"extract {which.name} {number}", tries.extract(model, images, out), act=act, watched=[out])
        data = tries.scratch / "train-data"
        if not data.exists():
            shutil.copytree(images, data / "1_cat")
        command = tries.train(model, data, tries.scratch / f"out-train-{number}", "--max_train_steps", 500)
        tries.run("signals while computing", f"train {which.name} {number}", command, act=act, watched=[out], seconds=4)


def limits(tries, model, images):
    out = tries.scratch / "out-limits"
    data = tries.scratch / "limit-data"
    shutil.copytree(images, data / "1_cat")
    kib = 1024
    tried = [(f"{size} KiB files", [(resource.RLIMIT_FSIZE, size * kib)]) for size in (0, 1, 4, 16, 64)]
    tried += [(f"{count} open files", [(resource.RLIMIT_NOFILE, count)]) for count in (4, 6, 8, 12, 16, 24)]
    for what, limit in tried:
        shutil.rmtree(out, ignore_errors=True)
        # Standard error is a file here, which the first limit keeps empty.
        silent = what.startswith("0 ")
        tries.run("limits", f"extract, {what}", tries.extract(model, images, out), limits=limit, watched=[out], silent=silent)
        tries.run("limits", f"train, {what}", tries.train(model, data, out), limits=limit, watched=[out], seconds=4, silent=silent)
        command = [tries.program("convert"), "checkpoint", model, out / "x.safetensors"]
        tries.run("limits", f"convert, {what}", command, limits=limit, watched=[out], silent=silent)


def full(tries, model, images):
    """Outputs that cannot be written: a full device, a pipe that nobody reads, a folder that is read-only."""
    out = tries.scratch / "out-full"
    data = tries.scratch / "full-data"
    shutil.copytree(images, data / "1_cat")
    commands = {
        "extract": tries.extract(model, images, out),
        "train": tries.train(model, data, out),
        "convert inspect": [tries.program("convert"), "inspect", model / "unet/diffusion_pytorch_model.safetensors"],
        "extract layers": [tries.program("extract"), "layers", "--model", model],
        "extract --help": [tries.program("extract"), "--help"],
    }
    for name, command in commands.items():
        quoted = " ".join(f"'{word}'" for word in command)
        for redirect in ("> /dev/full", "2> /dev/full", "> /dev/full 2>&1", "| true", "2>&1 | true", "| head -1", "2>&1 | head -c 1", ">&-", "2>&-"):
            command = ["bash", "-c", f"set -o pipefail; {quoted} {redirect}"]
            tries.run("outputs that fail", f"{name} {redirect}", command, seconds=4, good=(0, 1, 2, 141), silent="2>" in redirect)
    for name, place in (("/dev/full/x", "/dev/full/x"), ("/proc/x", "/proc/x"), ("a file", tries.scratch / "layers.json")):
        tries.run("outputs that fail", f"extract to {name}", tries.extract(model, images, place))
        tries.run("outputs that fail", f"train to {name}", tries.train(model, data, place))


def arguments(tries, model, images):
    out = tries.scratch / "out-arguments"
    data = tries.scratch / "argument-data"
    shutil.copytree(images, data / "1_cat")
    numbers = ["-1", "0", "1e9", "99999999999999999999", "nan", "inf", "", "a", "1000000000", "18446744073709551615", "\x1b[31m", "\u202e"]
    for option in ("--t", "--img_size", "--batch-size", "--threads", "--seed", "--feature-resize", "--shard", "--lora", "--layer", "--dtype", "--device"):
        for value in numbers:
            if option == "--threads" and value == "0":
                continue
            tries.run("values of options", f"extract {option} {value!r}", tries.extract(model, images, out, f"{option}={value}"))
    for option in ("--network_dim", "--network_alpha", "--max_train_steps", "--max_train_epochs", "--learning_rate", "--train_batch_size", "--resolution",
                   "--threads", "--seed", "--caption_dropout_rate", "--gradient_accumulation_steps", "--save_every_n_steps", "--min_snr_gamma"):  # fmt: skip
        for value in numbers:
            if value in ("0", "1e9", "1000000000", "18446744073709551615") and option in ("--max_train_steps", "--max_train_epochs"):
                continue
            tries.run("values of options", f"train {option} {value!r}", tries.train(model, data, out, f"{option}={value}"), seconds=6)
    for value in numbers + ["100000"]:
        command = [tries.program("extract"), "generate", "--model", model, "--prompt", "a", "--output_dir", out, "--img_size", 64, "--steps", 2]
        tries.run("values of options", f"generate --threads {value!r}", command + [f"--threads={value}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--only", default="configs,files,names,signals,limits,full,arguments")
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--failures", type=argparse.FileType("w"), default=None)
    parser.add_argument("--model", type=pathlib.Path, help="a miniature that is there already")
    args = parser.parse_args()
    scratch = pathlib.Path(args.scratch).resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tries = Tries(args.build, scratch, args.failures)
    model = args.model
    if model is None:
        model = scratch / "model"
        subprocess.run([tries.build / "examples/miniature", model, "--pictures"], check=True, stdout=subprocess.DEVNULL)
    model = model.resolve()
    images = scratch / "images"
    images.mkdir()
    for picture in sorted((model / "images").rglob("*.png"))[:2]:
        shutil.copy(picture, images / picture.name)
    groups = {
        "configs": lambda: configs(tries, model, images, args.tries),
        "files": lambda: files(tries, model, images),
        "names": lambda: names(tries, model, images),
        "signals": lambda: signals(tries, model, images),
        "limits": lambda: limits(tries, model, images),
        "full": lambda: full(tries, model, images),
        "arguments": lambda: arguments(tries, model, images),
    }
    for name in args.only.split(","):
        groups[name]()
    print("| tries | of which handled well | |\n| --- | --- | --- |")
    for group, (tried, well) in tries.counts.items():
        print(f"| {group} | {well} of {tried} | {100 * well / tried:.1f} % |")
    tried, well = (sum(pair[i] for pair in tries.counts.values()) for i in (0, 1))
    print(f"| all | {well} of {tried} | {100 * well / tried:.1f} % |")
    print(f"\nslowest {tries.slowest:.1f} s, largest {tries.largest} MB; limits {SECONDS} s and {MEGABYTES} MB")
    return 0 if tried == well else 1


if __name__ == "__main__":
    sys.exit(main())
