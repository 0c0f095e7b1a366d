"""Prints where other CLIP tokenizers give other ids than tests/fixtures/tokenizer (the slow class of 4.49 without ftfy).

    python tests/reference/tokenizer_others.py

Run it in any environment: it loads what transformers has there, the slow class and the fast one where there are two.
"""

import json
from pathlib import Path

import transformers

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/tokenizer"
PROBES = {
    "English": "A photo of a dog, high quality. Isn't it?", "accents": "cafe\u0301 na\u00efve \u00c5ngstr\u00f6m", "Chinese": "\u4e00\u53ea\u72d7", "Japanese": "\u72ac\u306e\u5199\u771f",
    "Korean": "\uac1c \uc0ac\uc9c4", "joined emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467", "soft hyphen": "pho\u00adto", "no-break space": "a\u00a0dog",
    "replacement": "a\ufffdb", "byte-order mark": "\ufeffa dog", "final sigma": "\u03a3\u0391\u03a3", "special": "a<|endoftext|>b", "special, other case": "a <|EndOfText|> b", "long s": "it'\u017f",
    "iota subscript": "a\u0345", "curly quotes": "it\u2019s \u201cthis\u201d", "mojibake": "sch\u00c3\u00b6n", "full width": "\uff21\uff22", "trailing newline": "a dog\n", "private use": "a\ue000b",
}


def main():
    cases = json.loads((FIXTURE / "ids.json").read_text())["cases"]
    classes = [transformers.CLIPTokenizer]
    if transformers.CLIPTokenizerFast is not transformers.CLIPTokenizer:
        classes.append(transformers.CLIPTokenizerFast)
    try:
        import ftfy

        fixer = f", ftfy {ftfy.__version__}"
    except ImportError:
        fixer = ", no ftfy"
    for kind in classes:
        tokenizer = kind.from_pretrained(FIXTURE)
        ids = lambda text: list(tokenizer(text, add_special_tokens=False).input_ids)
        differ = sum(ids(case["text"]) != case["ids"] for case in cases)
        print(f"transformers {transformers.__version__} {kind.__name__}{fixer}: {differ} of {len(cases)} fixture strings differ")
        for name, text in PROBES.items():
            print(f"  {name:20} {ids(text)}")


main()
