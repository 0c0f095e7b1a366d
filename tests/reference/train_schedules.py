"""Learning-rate factors of transformers' schedules, called as kohya's trainer calls them, for train/src/optimize/schedule.rs.

    python tests/reference/train_schedules.py > tests/fixtures/train/schedules.json

kohya's call is library/train_util.py, get_scheduler_fix, kohya-ss/sd-scripts 48d368f.
"""

import json
import sys

import torch
import transformers
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, SchedulerType

TOTAL = 40
LEARNING_RATE = 1e-4


def factors(name, **settings):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=LEARNING_RATE)
    scheduler = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)](optimizer, **settings)
    scale = scheduler.lr_lambdas[0]
    # Beyond the end too: nothing trains there, but it shows where a schedule comes to rest.
    return [float(scale(step)) for step in range(TOTAL + 4)]


def case(name, warmup=0, **options):
    arguments = [f"--lr_scheduler={name}", f"--learning_rate={LEARNING_RATE}"]
    settings = {}
    if name not in ("constant",):
        arguments.append(f"--lr_warmup_steps={warmup}")
        settings["num_warmup_steps"] = warmup
    if name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "cosine_with_min_lr"):
        settings["num_training_steps"] = TOTAL
    if "cycles" in options:
        arguments.append(f"--lr_scheduler_num_cycles={options['cycles']}")
    cycles = options.get("cycles", 1)
    if name == "cosine_with_restarts":
        settings["num_cycles"] = cycles
    if name == "polynomial":
        settings["power"] = options["power"]
        arguments.append(f"--lr_scheduler_power={options['power']}")
    if name == "inverse_sqrt":
        settings["timescale"] = options.get("timescale")
        if "timescale" in options:
            arguments.append(f"--lr_scheduler_timescale={options['timescale']}")
    if name == "cosine_with_min_lr":
        settings.update(num_cycles=cycles / 2, min_lr_rate=options["minimum"])
        arguments.append(f"--lr_scheduler_min_lr_ratio={options['minimum']}")
    if name == "warmup_stable_decay":
        decay = options["decay"]
        settings.update(num_stable_steps=TOTAL - warmup - decay, num_decay_steps=decay, num_cycles=cycles / 2, min_lr_ratio=options["minimum"])
        arguments += [f"--lr_decay_steps={decay}", f"--lr_scheduler_min_lr_ratio={options['minimum']}"]
    return dict(arguments=arguments, total=TOTAL, factors=factors(name, **settings))


cases = [
    case("constant"),
    case("constant_with_warmup", 7),
    case("linear"),
    case("linear", 7),
    case("cosine"),
    case("cosine", 7),
    case("cosine_with_restarts", 0, cycles=1),
    case("cosine_with_restarts", 7, cycles=3),
    case("polynomial", 0, power=1.0),
    case("polynomial", 7, power=2.5),
    case("inverse_sqrt", 0),
    case("inverse_sqrt", 7),
    case("inverse_sqrt", 7, timescale=20),
    case("cosine_with_min_lr", 0, minimum=0.1),
    case("cosine_with_min_lr", 7, minimum=0.25, cycles=3),
    case("warmup_stable_decay", 7, decay=10, minimum=0.0),
    case("warmup_stable_decay", 5, decay=12, minimum=0.2, cycles=2),
]
result = dict(source=f"transformers {transformers.__version__}, torch {torch.__version__}", script="tests/reference/train_schedules.py", cases=cases)
json.dump(result, sys.stdout, separators=(",", ":"))
