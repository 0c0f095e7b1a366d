"""Makes tests/fixtures/tokenizer: a small vocabulary in CLIP's format, and the ids of transformers' slow CLIPTokenizer.

    python tests/reference/tokenizer.py

Needs transformers 4.49 without ftfy. The vocabulary is trained here, apart from the Rust code, by the rules that
model/src/tokenizer/miniature.rs states; a test asks that both write the same bytes.
"""

import json
import platform
import random
import unicodedata
from collections import Counter
from pathlib import Path

import regex
import transformers
from transformers import CLIPTokenizer
from transformers.models.clip.tokenization_clip import BasicTokenizer, bytes_to_unicode

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/fixtures/tokenizer"
MERGES = 400
SEED = 7


def train():
    text = (ROOT / "model/src/tokenizer/miniature.txt").read_text(encoding="utf-8")
    clean = " ".join(BasicTokenizer(strip_accents=False, do_split_on_punc=False).tokenize(text))
    word = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
    symbol = bytes_to_unicode()
    words = Counter("".join(symbol[b] for b in found.encode()) for found in word.findall(clean))
    words = {tuple(w[:-1]) + (w[-1] + "</w>",): n for w, n in words.items()}
    merges = []
    for _ in range(MERGES):
        pairs = Counter()
        for w, n in words.items():
            for pair in zip(w, w[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = Counter()
        for w, n in words.items():
            out, i = [], 0
            while i < len(w):
                if w[i : i + 2] == best:
                    out.append(w[i] + w[i + 1])
                    i += 2
                else:
                    out.append(w[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    return merges


def write_vocabulary(folder):
    merges = train()
    symbols = sorted(bytes_to_unicode().values())
    tokens = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == len(tokens)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")

    def token(content, **more):
        return {**more, "content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    start, end = "<|startoftext|>", "<|endoftext|>"
    typed = {"__type": "AddedToken"}
    config = {
        "add_prefix_space": False,
        "bos_token": token(start, **typed),
        "do_lower_case": True,
        "eos_token": token(end, **typed),
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": end,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": token(end, **typed),
    }
    special = {"bos_token": token(start), "eos_token": token(end), "pad_token": end, "unk_token": token(end)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


WORDS = """a photo of the dog cat horse running in green fields High Quality PHOTO resolution isn't they're we've I'm she'll he'd
somebody's rock'n'roll 'tis O'Neill 1999 3.14 42nd 10,000 mp4 x264 C++ #tag @user e-mail state-of-the-art :-) ;-P <3 ... !!! ?!
naïve café Ångström crème brûlée Ærøskøbing Straße GROẞ İstanbul ıspanak ΟΔΥΣΣΕΥΣ Σίσυφος ΣΑΣ Α.Σ. ΣΣ Σ fiancée Zoë
чёрный Кот ПРИВЕТ Київ дизайн 日本語 の 東京タワー カタカナ ﾊﾝｶｸ 中文字符 漢字 𠀀𠀁 㐀 豈 金 한국어 한글 가나다 ᄀ힣 العربية مَرْحَبًا עברית שָׁלוֹם
हिन्दी क्षत्रिय தமிழ் ไทยสวัสดี བོད Ελληνικά Հայերեն ქართული አማርኛ Tiếng Việt ½ ² ₃ Ⅳ ⅷ ① ٣٤ ๕ ৪ ㊿ 𝟘𝟡 ℃ ™ © § € ¥ £ ﷼ ← ∑ √ ≠ █ ♥ ☃ “quoted” ‘single’ l’eau « guillemets » „low“ – — …
👍 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️‍🔥 🧑🏿‍🚀 1️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 😀😀 ☺︎ ﬁnance oﬃce ſtop 'ſ 'Sunny 'TIS 'RE 'LLama 'dog K Å Ω ǅ ǆ ŉ ǰ ΐ ﬅ ẞ ᾳ ᾼ ͅ é é ô̂ ạ̈ ạ̈ Ḍ̇ Ḍ̇ ñ""".split()

SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "<|STARTOFTEXT|>", "<|endoftext|", "<|end oftext|>", "<|ſtartoftext|>", "<|endo\u00adftext|>", "</w>", "<|endoftext|>" * 2]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u1680", "\u2000", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\x0b", "\x0c", "\x85", "\x1c", "\x1f"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x1b", "\x7f", "\x80", "\x9f", "\u00ad", "\u061c", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u202a", "\u2060", "\u2066", "\ufeff", "\ufffd", "\ue000", "\uf8ff", "\ufdd0", "\uffff", "\U000e0001", "\U0010ffff", "\u0378"]
HAND = [
    "", " ", "\n", "\u200b", "a", "A photo of a dog.", "a photo of a dog\n", "hello,world", "Hello   World", "don't  DON'T Don’t", "'", "''s", "'s's", "s's", "it''s", "!'s", "1's 2't", "a'",
    "ΟΔΟΣ ΟΔΟΣ. ΟΔΟΣ, ΟΔΟΣ's ΑΣ\u00adΑ ΑΣ\u0301 ΑΣ' Σ 'Σ AΣ1 ΑΣ中 中Σ", "İI ıi İ̇ Ǆ ǅ ẞß ﬀ", "\u1e9e\u0130\u03a3", "ＡＢＣ１２３　ｶﾞ", "…！？。、", "a\u0301b\u0308", "e\u0301\u0323 e\u0323\u0301", "\u0301", " \u0301a", "中\u0301文",
    "豈更車賈滑串句龜", "\U0002f800\U0002f801", "\u2f00\u2e80\u3005\u3007\u303b", "か\u3099き\u309a", "\u1100\u1161\u11a8 각", "각각", "\u0344\u0958\u2126\u212a\u212b\u2000", "a" * 300, "photo " * 120, "x y " * 40, "中" * 100, "👍" * 60, "a,b.c!d?e;f:g" * 10, "?" * 200, "1234567890" * 12,
    "the quick brown fox jumps over the lazy dog", "(a photo:1.3) [dog] {cat}", "masterpiece, best quality, 1girl, solo, <lora:x:1>", "<dog> <|dog|> <|", "|><|", "a <|endoftext|> b", "a<|endoftext|>b", " <|endoftext|> ", "<|startoftext|>a photo<|endoftext|>", "<|EndOfText|>s", "!<|EndOfText|>", "x<|ENDOFTEXT|>y",
    "".join(chr(c) for c in range(0x20, 0x7f)), "".join(chr(c) for c in range(0xa0, 0x180)), "".join(map(chr, range(0x370, 0x400))), "".join(map(chr, range(0x300, 0x370))), "".join("x" + chr(c) for c in range(0x2000, 0x2070)), "".join(map(chr, range(0x3040, 0x3100))), "".join(map(chr, range(0xf900, 0xf940))), "".join(map(chr, range(0x1f3f8, 0x1f400))),
]


def strings():
    random.seed(SEED)
    found = list(HAND) + WORDS + SPECIAL
    found += [f"a{space}b{space}" for space in SPACES] + [f"pho{control}to {control}" for control in CONTROLS]
    while len(found) < 1250:
        parts = []
        for _ in range(random.choice([1, 2, 3, 5, 8])):
            kind = random.random()
            if kind < 0.7:
                word = random.choice(WORDS)
                parts.append(random.choice([str, str.upper, str.title, str.swapcase, lambda w: unicodedata.normalize("NFD", w)])(word))
            elif kind < 0.8:
                parts.append(random.choice(SPECIAL))
            elif kind < 0.9:
                parts.append(random.choice(CONTROLS))
            else:
                block = random.choice([0x20, 0xc0, 0x250, 0x370, 0x400, 0x590, 0x620, 0x900, 0x1e00, 0x2010, 0x2190, 0x3040, 0x4e00, 0xac00, 0xf900, 0xfe00, 0xff00, 0x1d400, 0x1f300, 0x20000])
                parts.append("".join(chr(block + random.randrange(0x60)) for _ in range(random.randint(1, 6))))
            if random.random() < 0.75:
                parts.append(" " if random.random() < 0.7 else random.choice(SPACES))
        found.append("".join(parts))
    return list(dict.fromkeys(found))


def main():
    try:
        import ftfy  # noqa: F401
    except ImportError:
        pass
    else:
        raise SystemExit("ftfy is installed; the reference is the tokenizer without it")
    assert transformers.__version__.startswith("4.49."), transformers.__version__
    write_vocabulary(OUT)
    tokenizer = CLIPTokenizer.from_pretrained(OUT)
    texts = strings()
    assigned_late = [t for t in texts if any(unicodedata.category(c) == "Cn" and ord(c) not in (0x378, 0xFDD0, 0xFFFF, 0x10FFFF) for c in t)]
    cases = [{"text": t, "ids": tokenizer(t, add_special_tokens=False).input_ids} for t in texts if t not in assigned_late]
    prompts = ["", "a photo of a dog", "photo " * 74, "photo " * 75, "photo " * 76, "high quality, " * 80, "1234567890" * 24]
    prompts += ["word " * 69 + "end", "word " * 70 + "end", "a\n" * 90, "x  " * 36, "中" * 80, "<|endoftext|> " * 20]
    sequences = []
    for text in prompts:
        padded = {n: tokenizer(text, padding="max_length", truncation=True, max_length=n).input_ids for n in (77, 152, 227)}
        sequences.append({"text": text, "long": len(text.split(" ")) > 70, "untruncated": tokenizer(text, truncation=False).input_ids, "padded": padded})
    about = {
        "script": "tests/reference/tokenizer.py", "seed": SEED, "class": "transformers.CLIPTokenizer (slow), ftfy not installed",
        "transformers": transformers.__version__, "python": platform.python_version(), "unicode": unicodedata.unidata_version, "regex": regex.__version__,
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    more = ",\n".join(json.dumps(case, separators=(",", ":")) for case in sequences)
    (OUT / "ids.json").write_text(f'{{"about": {json.dumps(about)},\n"cases": [\n{lines}\n],\n"sequences": [\n{more}\n]}}\n')
    print(about, len(cases), "cases,", len(assigned_late), "left out as unassigned in this Unicode version")


main()
