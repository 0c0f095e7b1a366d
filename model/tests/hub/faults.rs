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

#[test]
fn small_files_are_checked_too_and_asked_for_again() {
    let hub = Hub::new(pipeline(), Behavior { damaged_small: 1, ..Behavior::default() });
    let folder = resolve(ID, &hub.options()).unwrap();
    assert_has(&folder, &SMALL, &pipeline());
    let gets = hub.server.requests().iter().filter(|request| request.method == "GET" && !request.storage).count();
    assert_eq!(gets, 1 + SMALL.len() + 1 + PLAIN.len(), "the listing, the small files, one of them again, large ones");

    let hub = Hub::new(pipeline(), Behavior { damaged_small: usize::MAX, ..Behavior::default() });
    let error = message(resolve(ID, &hub.options()));
    assert!(error.contains(SMALL[0]) && error.contains("hash"), "{error}");
    assert!(entries(&hub.repository().join("blobs")).is_empty());
    // Git's own number for a file of five bytes.
    let hello = BTreeMap::from([("README.md".to_owned(), b"hello".to_vec())]);
    let etag = Some("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".to_owned());
    let hub = Hub::new(hello, Behavior { etag, ..Behavior::default() });
    assert_eq!(std::fs::read(download(ID, "README.md", &hub.options()).unwrap()).unwrap(), b"hello");
}

#[test]
fn a_part_with_other_contents_is_thrown_away() {
    let hub = Hub::new(pipeline(), Behavior::default());
    let first = SMALL[0];
    let etag = {
        let path = resolve_configuration(ID, &hub.options()).unwrap();
        std::fs::read_link(path.join(first)).unwrap().file_name().unwrap().to_owned()
    };
    let blobs = hub.repository().join("blobs");
    std::fs::remove_file(blobs.join(&etag)).unwrap();
    std::fs::write(blobs.join(format!("{}.incomplete", etag.display())), [7; 40]).unwrap();
    assert_has(&resolve_configuration(ID, &hub.options()).unwrap(), &[first], &pipeline());
}

#[test]
fn a_server_that_drips_is_given_up() {
    let hub = Hub::new(pipeline(), Behavior { drip: Duration::from_millis(15), ..Behavior::default() });
    let options = HubOptions { timeout: Duration::from_millis(200), retries: 2, ..hub.options() };
    let begin = std::time::Instant::now();
    let error = message(download(ID, SMALL[0], &options));
    assert!(error.contains("less than 1 kB a second") && error.contains(SMALL[0]), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn the_wait_that_a_server_asks_for_is_kept() {
    let hub = Hub::new(pipeline(), Behavior { busy: 1, retry_after: Some("1".to_owned()), ..Behavior::default() });
    let begin = std::time::Instant::now();
    download(ID, SMALL[0], &hub.options()).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    hub.server.behave(Behavior { busy: 1, retry_after: Some("86400".to_owned()), ..Behavior::default() });
    let error = message(download(ID, SMALL[1], &hub.options()));
    assert!(error.contains("come back in 86400 s") && error.contains("HTTP 503"), "{error}");
    let date = "Fri, 31 Dec 9999 23:59:59 GMT".to_owned();
    hub.server.behave(Behavior { busy: 1, retry_after: Some(date), ..Behavior::default() });
    let error = message(download(ID, SMALL[1], &hub.options()));
    assert!(error.contains("come back in 25"), "some 250 thousand million seconds: {error}");
}

#[test]
fn bodies_are_bounded() {
    let hub = Hub::new(pipeline(), Behavior { announced: Some(1 << 40), ..Behavior::default() });
    let error = message(download(ID, SMALL[0], &hub.options()));
    assert!(error.contains("1099511627776 bytes"), "{error}");
    let hub = Hub::new(pipeline(), Behavior { endless: true, ..Behavior::default() });
    let error = message(download(ID, SMALL[0], &HubOptions { retries: 0, ..hub.options() }));
    assert!(error.contains("more bytes than"), "{error}");
}
