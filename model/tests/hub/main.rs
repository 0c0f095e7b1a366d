//! Downloads by hub id, the real code against a hub on 127.0.0.1 that answers like huggingface.co (`server.rs`).

mod faults;
mod server;

use driftless::Error;
use driftless::hub::{HubOptions, Transfer, download, resolve, resolve_configuration, resolve_controlnet};
use server::{Behavior, COMMIT, HubServer};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ID: &str = "someone/some-model";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const HALF: [&str; 3] = [
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.fp16.safetensors",
];
const PLAIN: [&str; 3] = [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"];
const SMALL: [&str; 9] = [
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "scheduler/scheduler_config.json",
];
const OTHERS: [&str; 4] = ["README.md", "safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin", "v1-5.ckpt"];

/// Content that differs from file to file and from place to place.
fn content(name: &str, length: usize) -> Vec<u8> {
    let start = name.bytes().fold(7usize, |sum, byte| sum * 31 % 65521 + usize::from(byte));
    (0..length).map(|i| ((start + i * i / 7) % 251) as u8).collect()
}

fn files(names: &[&[&str]]) -> BTreeMap<String, Vec<u8>> {
    let length = |name: &str| if name.ends_with(".safetensors") { 700_001 } else { 90 };
    names.iter().flat_map(|names| names.iter()).map(|name| ((*name).to_owned(), content(name, length(name)))).collect()
}

fn pipeline() -> BTreeMap<String, Vec<u8>> {
    files(&[&SMALL, &PLAIN, &HALF, &OTHERS])
}

struct Hub {
    server: HubServer,
    cache: tempfile::TempDir,
}

impl Hub {
    fn new(files: BTreeMap<String, Vec<u8>>, behavior: Behavior) -> Self {
        Self { server: HubServer::start(ID, files, behavior), cache: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> HubOptions {
        let mut options = HubOptions::from_variables(|_| None);
        options.endpoint = self.server.endpoint.clone();
        options.cache = Some(self.cache.path().to_owned());
        options.token = None;
        options.timeout = Duration::from_secs(20);
        options.retry_wait = Duration::from_millis(1);
        options
    }

    fn repository(&self) -> PathBuf {
        self.cache.path().join("models--someone--some-model")
    }

    /// The one unfinished blob.
    fn part(&self) -> PathBuf {
        let parts: Vec<_> =
            entries(&self.repository().join("blobs")).into_iter().filter(|p| p.ends_with(".incomplete")).collect();
        assert_eq!(parts.len(), 1, "{parts:?}");
        self.repository().join("blobs").join(&parts[0])
    }
}

fn entries(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn assert_has(folder: &Path, names: &[&str], files: &BTreeMap<String, Vec<u8>>) {
    for name in names {
        assert!(std::fs::read(folder.join(name)).unwrap() == files[*name], "{name}");
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Hub { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn a_pipeline_is_downloaded_once_and_then_needs_no_network() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let folder = resolve(ID, &hub.options()).unwrap();
    assert_eq!(folder, hub.repository().join("snapshots").join(COMMIT));
    assert_has(&folder, &SMALL, &pipeline());
    assert_has(&folder, &PLAIN, &pipeline());
    for name in HALF.iter().chain(&OTHERS) {
        assert!(!folder.join(name).exists(), "{name} is not needed");
    }
    // The layout that other programs read.
    assert_eq!(std::fs::read_to_string(hub.repository().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(entries(&hub.repository().join("blobs")).len(), SMALL.len() + PLAIN.len());
    #[cfg(unix)]
    assert!(std::fs::read_link(folder.join(UNET)).unwrap().starts_with("../../../blobs"));

    let before = hub.server.requests().len();
    assert_eq!(resolve(ID, &hub.options()).unwrap(), folder);
    let gone = HubOptions { endpoint: "http://127.0.0.1:9".to_owned(), ..hub.options() };
    assert_eq!(resolve(ID, &gone).unwrap(), folder);
    assert_eq!(resolve(ID, &HubOptions { offline: true, ..hub.options() }).unwrap(), folder);
    assert_eq!(download(ID, "unet/config.json", &gone).unwrap(), folder.join("unet/config.json"));
    assert_eq!(hub.server.requests().len(), before);
}

#[test]
fn offline_names_what_is_missing() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let offline = HubOptions { offline: true, ..hub.options() };
    let error = message(resolve(ID, &offline));
    for part in [ID, "HF_HUB_OFFLINE", "model_index.json", "unset HF_HUB_OFFLINE", "folder"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(message(download(ID, "README.md", &offline)).contains("README.md"));
    assert!(hub.server.requests().is_empty());

    let folder = resolve(ID, &hub.options()).unwrap();
    std::fs::remove_file(folder.join("vae/config.json")).unwrap();
    let error = message(resolve(ID, &offline));
    assert!(error.contains("no vae/config.json of"), "{error}");
    // Only what is missing is fetched.
    let before = hub.server.transfers().len();
    resolve(ID, &hub.options()).unwrap();
    assert_eq!(hub.server.transfers().len(), before);
}

#[test]
fn half_precision_weights_are_taken_when_wanted_or_alone() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let half = HubOptions { half: true, ..hub.options() };
    let folder = resolve(ID, &half).unwrap();
    assert_has(&folder, &HALF, &pipeline());
    assert!(!folder.join(UNET).exists());
    // The other precision is fetched beside it, or, without a hub, done without.
    let gone = HubOptions { endpoint: "http://127.0.0.1:9".to_owned(), ..hub.options() };
    assert_eq!(resolve(ID, &gone).unwrap(), folder);
    assert_eq!(resolve(ID, &HubOptions { offline: true, ..hub.options() }).unwrap(), folder);
    assert!(!folder.join(UNET).exists());
    assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());

    let only = files(&[&SMALL, &HALF]);
    let hub = Hub::new(only.clone(), Behavior::default());
    assert_has(&resolve(ID, &hub.options()).unwrap(), &HALF, &only);
}

#[test]
fn weights_in_several_files_follow_their_index() {
    let mut repository = files(&[&SMALL, &PLAIN[1..]]);
    let shards = ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors"];
    let index =
        format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{}", "b": "{}", "c": "{}"}}}}"#, shards[0], shards[1], shards[0]);
    repository.insert(format!("{UNET}.index.json"), index.into_bytes());
    for shard in shards {
        repository.insert(format!("unet/{shard}"), content(shard, 5000));
    }
    let hub = Hub::new(repository.clone(), Behavior::default());
    let folder = resolve(ID, &hub.options()).unwrap();
    let names = [format!("unet/{}", shards[0]), format!("unet/{}", shards[1])];
    assert_has(&folder, &names.each_ref().map(String::as_str), &repository);

    std::fs::remove_file(folder.join(&names[1])).unwrap();
    let error = message(resolve(ID, &HubOptions { offline: true, ..hub.options() }));
    assert!(error.contains(&names[1]), "{error}");
    resolve(ID, &hub.options()).unwrap();
    assert!(folder.join(&names[1]).exists());
}

#[test]
fn configurations_come_without_weights() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let folder = resolve_configuration(ID, &hub.options()).unwrap();
    assert_has(&folder, &SMALL, &pipeline());
    assert!(!folder.join(UNET).exists());
    // A pipeline asked for later gets what is missing.
    let whole = resolve(ID, &hub.options()).unwrap();
    assert_has(&whole, &PLAIN, &pipeline());
}

#[test]
fn controlnets_and_single_files() {
    let repository = files(&[&["config.json", "diffusion_pytorch_model.fp16.safetensors", "README.md"]]);
    let hub = Hub::new(repository.clone(), Behavior::default());
    let folder = resolve_controlnet(ID, &hub.options()).unwrap();
    assert_has(&folder, &["config.json", "diffusion_pytorch_model.fp16.safetensors"], &repository);
    assert!(!folder.join("README.md").exists());
    assert_eq!(download(ID, "README.md", &hub.options()).unwrap(), folder.join("README.md"));
    assert!(message(download(ID, "LICENSE.md", &hub.options())).contains("no file `LICENSE.md`"));
    assert!(matches!(download(ID, "../../x", &hub.options()), Err(Error::Argument { .. })));

    let error = message(resolve(ID, &hub.options()));
    assert!(error.contains("not a Stable Diffusion pipeline") && error.contains("model_index.json"), "{error}");
    let hub = Hub::new(files(&[&["v1-5.safetensors"]]), Behavior::default());
    assert!(message(resolve(ID, &hub.options())).contains("download v1-5.safetensors and give that file"));
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let hub = Hub::new(pipeline(), Behavior { token: Some("hf_secret".to_owned()), ..Behavior::default() });
    let options = HubOptions { token: Some("hf_secret".to_owned()), ..hub.options() };
    resolve(ID, &options).unwrap();
    let requests = hub.server.requests();
    assert!(requests.iter().any(|request| request.storage) && requests.iter().any(|request| !request.storage));
    for request in requests {
        let expected = if request.storage { None } else { Some("Bearer hf_secret") };
        assert_eq!(request.authorization.as_deref(), expected, "{request:?}");
    }
    assert!(!format!("{options:?}").contains("hf_secret"));
    assert!(matches!(
        download(ID, "x", &HubOptions { token: Some("a\nb".to_owned()), ..hub.options() }),
        Err(Error::Argument { .. })
    ));
}

#[test]
fn refusals_say_what_to_do() {
    let cases = [
        ((401, "GatedRepo"), ["request only", "HF_TOKEN"]),
        ((403, "GatedRepo"), ["request only", ID]),
        ((401, "RepoNotFound"), ["private, or does not exist", "HF_TOKEN"]),
        ((404, "RepoNotFound"), ["no such repository", "no local folder"]),
        ((404, "RevisionNotFound"), ["no revision `main`", "tree/main"]),
        ((418, ""), ["HTTP 418", "HF_ENDPOINT"]),
    ];
    for (refusal, expected) in cases {
        let hub = Hub::new(pipeline(), Behavior { refusal: Some(refusal), ..Behavior::default() });
        let error = message(resolve(ID, &hub.options()));
        assert!(error.starts_with(ID) && expected.iter().all(|part| error.contains(part)), "{refusal:?}: {error}");
        assert_eq!(hub.server.requests().len(), 1);
    }
}

#[test]
fn paths_are_not_sent_to_the_hub() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let absent = [
        "./models/sd15",
        "../sd15",
        "/models/sd15",
        "~/sd15",
        "sd15",
        "models/sd15/",
        "a/b/c",
        "models/sd15.safetensors",
        "a/b.CKPT",
    ];
    for model in
        absent.into_iter().chain(["", "a\\b", "C:/sd15", "https://huggingface.co/a/b", "a/..", "-a/b", "a/b--c", "a b/c"])
    {
        let error = resolve(model, &hub.options()).unwrap_err();
        assert!(matches!(&error, Error::Argument { .. }), "{model}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("`{model}` does not exist")) && text.contains("owner/name"), "{text}");
    }
    let folder = hub.cache.path().to_str().unwrap();
    assert_eq!(resolve(folder, &hub.options()).unwrap(), Path::new(folder));
    let file = hub.cache.path().join("model.ckpt");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(resolve_controlnet(file.to_str().unwrap(), &hub.options()).unwrap(), file);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn revisions_are_branches_or_commits() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let branch = HubOptions { revision: Some("refs/pr/1".to_owned()), ..hub.options() };
    let folder = resolve(ID, &branch).unwrap();
    assert_eq!(std::fs::read_to_string(hub.repository().join("refs/refs/pr/1")).unwrap(), COMMIT);
    let before = hub.server.requests().len();
    // A commit is found without a note, as Python's client leaves it.
    let commit = HubOptions { revision: Some(COMMIT.to_owned()), ..hub.options() };
    assert_eq!(resolve(ID, &commit).unwrap(), folder);
    assert_eq!(hub.server.requests().len(), before);
    // Another branch with the same commit: its files are there, its name is asked for.
    assert_eq!(resolve(ID, &hub.options()).unwrap(), folder);
    assert_eq!(hub.server.requests().len(), before + 1);
    for revision in ["", "../../x", "a b"] {
        let options = HubOptions { revision: Some(revision.to_owned()), ..hub.options() };
        assert!(matches!(resolve(ID, &options), Err(Error::Argument { .. })));
    }
}

#[test]
fn renamed_repositories_are_followed() {
    let hub = Hub::new(pipeline(), Behavior { old_name: Some("gone/model".to_owned()), ..Behavior::default() });
    let folder = resolve("gone/model", &hub.options()).unwrap();
    assert_has(&folder, &PLAIN, &pipeline());
}

#[test]
fn progress_is_told_and_can_stop_a_download() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let seen: Arc<Mutex<Vec<(String, u64, Option<u64>)>>> = Arc::default();
    let told = seen.clone();
    let mut options = hub.options();
    options.progress = Some(Arc::new(move |transfer: &Transfer<'_>| {
        assert_eq!(transfer.repository, ID);
        told.lock().unwrap().push((transfer.file.to_owned(), transfer.done, transfer.total));
        if transfer.file == UNET && transfer.done > 200_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    let error = message(resolve(ID, &options));
    assert!(error.contains("interrupted") && error.contains(UNET), "{error}");
    assert!(seen.lock().unwrap().contains(&("model_index.json".to_owned(), 90, Some(90))));
    let part = hub.part().metadata().unwrap().len();
    assert!(part > 200_000 && part < 700_001);

    seen.lock().unwrap().clear();
    let told = seen.clone();
    options.progress = Some(Arc::new(move |transfer: &Transfer<'_>| {
        told.lock().unwrap().push((transfer.file.to_owned(), transfer.done, transfer.total));
        ControlFlow::Continue(())
    }));
    resolve(ID, &options).unwrap();
    let unet: Vec<u64> = seen.lock().unwrap().iter().filter(|(file, ..)| file == UNET).map(|(_, done, _)| *done).collect();
    assert!(unet.is_sorted() && unet.contains(&part) && unet.last() == Some(&700_001), "{unet:?}");
}

#[test]
fn two_at_once_download_each_file_once() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
                finished.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(finished.load(Ordering::Relaxed), 4);
    assert_eq!(hub.server.transfers().len(), PLAIN.len());
}

#[test]
fn the_environment_is_read_as_by_the_python_client() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
    let from = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<String, String> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HubOptions::from_variables(|name| map.get(name).cloned())
    };
    let plain = from(&[("HOME", "/home/me")]);
    assert_eq!(plain.endpoint, "https://huggingface.co");
    assert_eq!(plain.cache.unwrap(), Path::new("/home/me/.cache/huggingface/hub"));
    assert!(!plain.offline && plain.token.is_none() && plain.certificates.is_none());

    let hf_home = home.path().to_str().unwrap();
    let set = from(&[
        ("HOME", "/home/me"),
        ("HF_HOME", hf_home),
        ("HF_ENDPOINT", "https://mirror.example"),
        ("HF_HUB_OFFLINE", "true"),
    ]);
    assert_eq!((set.endpoint.as_str(), set.cache.unwrap()), ("https://mirror.example", home.path().join("hub")));
    assert!(set.offline);
    assert_eq!(set.token.as_deref(), Some("hf_from_file"));
    assert_eq!(from(&[("HF_HOME", hf_home), ("HF_TOKEN", " hf_own\n")]).token.as_deref(), Some("hf_own"));
    assert_eq!(from(&[("HF_HOME", hf_home), ("HF_TOKEN", "")]).token.as_deref(), Some("hf_from_file"));

    let cache = |pairs| from(pairs).cache.unwrap();
    assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/a"), ("HUGGINGFACE_HUB_CACHE", "/b")]), Path::new("/b"));
    assert_eq!(cache(&[("HOME", "/h"), ("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/b")]), Path::new("/c"));
    assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
    assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
    assert!(!from(&[("HF_HUB_OFFLINE", "0")]).offline);
    assert_eq!(from(&[("SSL_CERT_FILE", "/ca.pem")]).certificates.unwrap(), Path::new("/ca.pem"));
}

#[test]
fn zz_serve() {
    let Ok(dir) = std::env::var("SERVE_CACHE") else { return };
    let server = HubServer::start(ID, pipeline(), Behavior::default());
    let mut options = HubOptions::from_variables(|_| None);
    options.endpoint = server.endpoint.clone();
    options.cache = Some(PathBuf::from(&dir).join("ours"));
    resolve(ID, &options).unwrap();
    std::fs::write(format!("{dir}/endpoint"), &server.endpoint).unwrap();
    std::thread::sleep(Duration::from_secs(60));
    options.cache = Some(PathBuf::from(&dir).join("theirs"));
    options.offline = true;
    println!("theirs offline: {:?}", resolve(ID, &options));
}
