//! Connections that break, servers that misbehave, and downloads that are taken up again.

use super::*;

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000, 250_000], ..Behavior::default() });
    let folder = resolve(ID, &hub.options()).unwrap();
    assert_has(&folder, &PLAIN, &pipeline());
    let ranges: Vec<_> = hub.server.transfers().into_iter().map(|request| request.range).collect();
    let expected = [None, Some("bytes=300000-".to_owned()), Some("bytes=550000-".to_owned()), None, None];
    assert_eq!(ranges, expected);
}

#[test]
fn an_interrupted_run_is_taken_up_by_the_next() {
    let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000], ..Behavior::default() });
    let error = message(resolve(ID, &HubOptions { retries: 0, ..hub.options() }));
    assert!(error.contains(ID) && error.contains(UNET) && error.contains("HF_ENDPOINT"), "{error}");
    assert_eq!(hub.part().metadata().unwrap().len(), 300_000);
    assert!(!hub.repository().join("refs").exists());
    let offline = message(resolve(ID, &HubOptions { offline: true, ..hub.options() }));
    assert!(offline.contains("HF_HUB_OFFLINE"), "half a model must not be taken for one: {offline}");

    assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
    assert_eq!(hub.server.transfers()[1].range.as_deref(), Some("bytes=300000-"));
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole() {
    let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000], no_ranges: true, ..Behavior::default() });
    assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
    assert_eq!(hub.server.transfers().len(), PLAIN.len() + 1);
}

#[test]
fn leftover_parts_are_checked() {
    let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000], ..Behavior::default() });
    message(resolve(ID, &HubOptions { retries: 0, ..hub.options() }));
    // Whole, only the renaming was lost: nothing is to be fetched.
    std::fs::write(hub.part(), content(UNET, 700_001)).unwrap();
    let folder = resolve(ID, &hub.options()).unwrap();
    assert_has(&folder, &PLAIN, &pipeline());
    assert_eq!(hub.server.transfers().len(), 1 + PLAIN.len() - 1);

    for leftover in [vec![0; 700_001], vec![0; 900_000], vec![0; 5]] {
        let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000], ..Behavior::default() });
        message(resolve(ID, &HubOptions { retries: 0, ..hub.options() }));
        std::fs::write(hub.part(), leftover).unwrap();
        assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
    }
}

#[test]
fn damaged_content_does_not_enter_the_cache() {
    let hub = Hub::new(pipeline(), Behavior { damaged: usize::MAX, ..Behavior::default() });
    let error = message(resolve(ID, &hub.options()));
    assert!(error.contains(UNET) && error.contains("hash"), "{error}");
    assert_eq!(entries(&hub.repository().join("blobs")).len(), SMALL.len());
    assert!(!hub.repository().join("refs").exists());
    hub.server.behave(Behavior::default());
    assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
}

#[test]
fn a_silent_connection_is_given_up() {
    let hub = Hub::new(pipeline(), Behavior { cuts: vec![300_000], silent: true, ..Behavior::default() });
    let options = HubOptions { timeout: Duration::from_millis(500), ..hub.options() };
    assert_has(&resolve(ID, &options).unwrap(), &PLAIN, &pipeline());
    assert_eq!(hub.server.transfers()[1].range.as_deref(), Some("bytes=300000-"));
}

#[test]
fn a_busy_server_is_asked_again() {
    let hub = Hub::new(pipeline(), Behavior { busy: 3, ..Behavior::default() });
    assert_has(&resolve(ID, &hub.options()).unwrap(), &PLAIN, &pipeline());
    hub.server.behave(Behavior { busy: usize::MAX, ..Behavior::default() });
    let error = message(download(ID, "README.md", &hub.options()));
    assert!(error.contains("HTTP 503"), "{error}");
}

#[test]
fn without_a_network_there_is_one_clear_error() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let error = message(resolve(ID, &HubOptions { endpoint: "http://127.0.0.1:9".to_owned(), ..hub.options() }));
    for part in [ID, "http://127.0.0.1:9", "folder", "HF_ENDPOINT", "HF_HUB_OFFLINE"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let nowhere = HubOptions { endpoint: "ftp://example.org".to_owned(), ..hub.options() };
    assert!(resolve(ID, &nowhere).unwrap_err().to_string().contains("HF_ENDPOINT"));
    let homeless = HubOptions { cache: None, ..hub.options() };
    assert!(resolve(ID, &homeless).unwrap_err().to_string().contains("HF_HOME"));
}

#[test]
fn hostile_answers_write_nothing_outside_the_cache() {
    for etag in ["../../../evil", "/tmp/evil", "..", ""] {
        let hub = Hub::new(pipeline(), Behavior { etag: Some(etag.to_owned()), ..Behavior::default() });
        assert!(message(resolve(ID, &hub.options())).contains("ETag"));
    }
    for listing in ["{}", "<html>", r#"{"sha": "../../evil", "siblings": []}"#, r#"{"sha": "abc", "siblings": {}}"#] {
        let hub = Hub::new(pipeline(), Behavior { listing: Some(listing.to_owned()), ..Behavior::default() });
        assert!(message(resolve(ID, &hub.options())).contains("listing"));
    }
    for index in
        [r#"{"weight_map": {"a": "../../evil.safetensors"}}"#, r#"{"weight_map": {}}"#, "[]", r#"{"weight_map": {"a": "x.bin"}}"#]
    {
        let mut repository = files(&[&SMALL, &PLAIN[1..]]);
        repository.insert(format!("{UNET}.index.json"), index.as_bytes().to_vec());
        let hub = Hub::new(repository, Behavior::default());
        let error = resolve(ID, &hub.options()).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
    }
}

#[test]
fn certificates_that_are_none_are_refused() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let file = hub.cache.path().join("ca.pem");
    std::fs::write(&file, "nothing").unwrap();
    let error = resolve(ID, &HubOptions { certificates: Some(file), ..hub.options() }).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("SSL_CERT_FILE"), "{error}");
}
