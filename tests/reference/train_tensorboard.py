"""An event file as tensorboard's own writer makes it, with fixed times, for train/src/monitor/event_file.rs; and, with a folder as
argument, what tensorboard's own reader finds in the event files below it.

    pip install tensorboard==2.20.0
    python tests/reference/train_tensorboard.py                  # writes tests/fixtures/train/events.out.tfevents
    python tests/reference/train_tensorboard.py LOGGING_DIR      # reads
"""

import pathlib
import sys
import time

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures/train/events.out.tfevents"


def write():
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    image = summary_pb2.Summary.Image(height=2, width=3, colorspace=3, encoded_image_string=b"not really a PNG")
    values = [
        (1_700_000_001.5, 1, summary_pb2.Summary.Value(tag="loss/current", simple_value=0.125)),
        (1_700_000_002.0, 300, summary_pb2.Summary.Value(tag="lr/unet", simple_value=1e-4)),
        (1_700_000_003.0, 2, summary_pb2.Summary.Value(tag="sample_0", image=image)),
    ]
    with open(FIXTURE, "wb") as file:
        records = RecordWriter(file)
        first = event_pb2.Event(wall_time=1_700_000_000.25, file_version="brain.Event:2")
        records.write(first.SerializeToString())
        for wall_time, step, value in values:
            event = event_pb2.Event(wall_time=wall_time, step=step, summary=summary_pb2.Summary(value=[value]))
            records.write(event.SerializeToString())


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in sorted(pathlib.Path(folder).rglob("*tfevents*")):
        events = EventAccumulator(str(path))
        events.Reload()
        tags = events.Tags()
        for tag in tags["scalars"]:
            print(tag, [(event.step, event.value) for event in events.Scalars(tag)])
        for tag in tags["images"]:
            print(tag, [(event.step, event.width, event.height, len(event.encoded_image_string)) for event in events.Images(tag)])
        assert abs(events.FirstEventTimestamp() - time.time()) < 3600 * 24 * 365


if __name__ == "__main__":
    read(sys.argv[1]) if len(sys.argv) > 1 else write()
