//! What was found, in words.

use driftless_cli::escape::one_line;
use driftless_cli::output;
use serde_json::{Map, Value};

/// Tags and metadata that are told without `--verbose`.
const FEW: usize = 20;

/// Entries of kohya's metadata that say what a training was, and what they are called here.
const TRAINING: [(&str, &str); 6] = [
    ("ss_sd_model_name", "base model"),
    ("ss_output_name", "name"),
    ("ss_num_train_images", "images"),
    ("ss_steps", "steps"),
    ("ss_unet_lr", "learning rate"),
    ("ss_resolution", "resolution"),
];

/// Prints it, a line for each thing; with `verbose` the metadata and every key.
pub fn tell(found: &Map<String, Value>, verbose: bool) {
    let mut lines = vec![one_line(text(found, "file")).into_owned()];
    let mut add = |name: &str, told: Option<String>| {
        if let Some(told) = told.filter(|told| !told.is_empty()) {
            lines.push(format!("  {name}: {}", one_line(&told)));
        }
    };
    let architecture = found["architecture"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
    add("is", Some(format!("{}{architecture}", text(found, "description"))));
    add("problem", found.get("problem").and_then(Value::as_str).map(str::to_owned));
    let format = text(found, "format");
    let format = if format.is_empty() { String::new() } else { format!("{format}, ") };
    add("format", Some(format!("{format}{}", text(found, "container"))));
    add("progress", found.get("step").and_then(Value::as_u64).map(|step| format!("step {step}, epoch {}", found["epoch"])));
    add("size", Some(size(found)));
    add("networks", found.get("networks").and_then(Value::as_object).map(networks));
    add("weights", found.get("weights").and_then(Value::as_object).map(|counts| listed(counts, "of the")));
    add("layers", found.get("layers_by_network").and_then(Value::as_object).map(|counts| listed(counts, "of the")));
    add("families", found.get("layers_by_family").and_then(Value::as_object).map(families));
    add("rank", found.get("layers_by_rank").and_then(Value::as_array).map(|ranks| self::ranks(ranks)));
    add("alpha", found.get("alpha").filter(|alpha| !alpha.is_null()).map(alphas));
    add("weight norms", found.get("norms").and_then(Value::as_object).map(norms));
    let metadata = found["metadata"].as_object();
    add("trained", metadata.map(training));
    add("tags", found.get("tags").and_then(Value::as_array).map(|tags| self::tags(tags, if verbose { usize::MAX } else { FEW })));
    let not_understood = found.get("not_understood").and_then(Value::as_array).filter(|keys| !keys.is_empty());
    add("not understood", not_understood.map(|keys| format!("{} keys", keys.len())));
    let keys = found["keys"].as_array();
    if verbose {
        for (key, value) in metadata.into_iter().flatten() {
            let value: String = value.as_str().unwrap_or_default().chars().take(200).collect();
            lines.push(format!("  metadata {}: {}", one_line(key), one_line(&value)));
        }
        for key in keys.into_iter().flatten() {
            lines.push(format!(
                "  {} {} {}",
                one_line(key["name"].as_str().unwrap_or_default()),
                text_of(&key["dtype"]),
                key["shape"]
            ));
        }
    } else {
        let (entries, keys) = (metadata.map_or(0, Map::len), keys.map_or(0, Vec::len));
        lines.push(format!(
            "  with --verbose: {} of metadata, {}",
            counted(entries, "entry", "entries"),
            counted(keys, "key", "keys")
        ));
    }
    lines.iter().for_each(|line| output::print(&format!("{line}\n")));
}

fn text<'a>(found: &'a Map<String, Value>, name: &str) -> &'a str {
    found.get(name).map_or("", text_of)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Bytes, parameters, tensors and their types.
fn size(found: &Map<String, Value>) -> String {
    let number = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    let dtypes = found.get("dtypes").and_then(Value::as_object);
    let dtypes: Vec<&str> = dtypes.into_iter().flatten().map(|(dtype, _)| dtype.as_str()).collect();
    let dtypes = if dtypes.is_empty() { String::new() } else { format!(" of {}", dtypes.join(", ")) };
    format!(
        "{}, {} parameters in {} tensors{dtypes}",
        bytes(number("bytes")),
        in_groups(number("parameters")),
        in_groups(number("tensors"))
    )
}

/// Bytes with a unit of 1000.
fn bytes(count: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")];
    match units.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} bytes"),
    }
}

/// A number with commas between thousands.
fn in_groups(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, rest) = digits.split_at(if first == 0 { 3.min(digits.len()) } else { first });
    let rest: Vec<&str> = (0..rest.len() / 3).map(|group| &rest[3 * group..3 * group + 3]).collect();
    std::iter::once(head).chain(rest).collect::<Vec<_>>().join(",")
}

/// `192 of the unet, 72 of the text_encoder`.
fn listed(counts: &Map<String, Value>, between: &str) -> String {
    counts.iter().map(|(name, count)| format!("{count} {between} {name}")).collect::<Vec<_>>().join(", ")
}

/// `LoRA on 192 layers, trained norm on 1 layer`.
fn families(counts: &Map<String, Value>) -> String {
    let one = |(name, count): (&String, &Value)| {
        format!("{name} on {}", counted(count.as_u64().unwrap_or(0) as usize, "layer", "layers"))
    };
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn networks(networks: &Map<String, Value>) -> String {
    let one = |(name, network): (&String, &Value)| {
        let number = |name: &str| network[name].as_u64().unwrap_or(0);
        format!("{name} ({}, {} parameters)", bytes(number("bytes")), in_groups(number("parameters")))
    };
    networks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One rank, or each with its number of layers.
fn ranks(ranks: &[Value]) -> String {
    match ranks {
        [one] => one["rank"].to_string(),
        several => {
            let one = |entry: &Value| format!("{} on {} layers", entry["rank"], entry["layers"]);
            several.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

fn alphas(alphas: &Value) -> String {
    match alphas.as_array() {
        Some(several) => several.iter().map(Value::to_string).collect::<Vec<_>>().join(", "),
        None => alphas.to_string(),
    }
}

fn norms(norms: &Map<String, Value>) -> String {
    let number = |name: &str| norms.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    format!("{:.3} on average, {:.3} at most ({})", number("mean"), number("largest"), text(norms, "layer"))
}

/// What kohya's metadata say of the training.
fn training(metadata: &Map<String, Value>) -> String {
    let told = TRAINING.iter().filter_map(|(key, name)| Some(format!("{name} {}", metadata.get(*key)?.as_str()?)));
    told.collect::<Vec<_>>().join(", ")
}

fn tags(tags: &[Value], most: usize) -> String {
    let told: Vec<String> = tags.iter().take(most).map(|tag| format!("{} ({})", text_of(&tag["tag"]), tag["count"])).collect();
    let more = tags.len().saturating_sub(most);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    told.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, 1_234_567].map(in_groups), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12, 1500, 9_100_000, 4_265_000_000].map(bytes), ["12 bytes", "1.5 KB", "9.1 MB", "4.3 GB"]);
    }
}
