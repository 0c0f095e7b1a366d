//! Scenes are what they say they are, and the same bytes on every machine.

use driftless::vision::Image;
use testkit::scenes::layouts::{DataSet, ade20k, cityscapes, kohya, label_scarce, spair};
use testkit::scenes::{CATEGORIES, Scene, Style, Wanted};

fn wanted(style: Style, objects: usize) -> Wanted {
    Wanted { style, size: [192, 128], category: None, objects }
}

fn data(style: Style) -> DataSet {
    DataSet { style, side: 48, seed: 7 }
}

/// CRC-32 of all files of a folder with their names.
fn digest(folder: &std::path::Path) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (name, bytes) in testkit::files(folder) {
        hasher.update(name.as_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize()
}

#[test]
fn the_same_seed_gives_the_same_pixels_everywhere() {
    let pixels = |style| crc32fast::hash(&Scene::new(3, &wanted(style, 2)).render().image.pixels);
    let found = Style::ALL.map(pixels);
    assert_eq!(found, [1_511_657_499, 1_392_603_586, 3_654_581_737], "{found:?}");
}

#[test]
fn captions_name_what_is_seen() {
    let captions = |style| {
        let scene = Scene::new(3, &wanted(style, 1));
        [scene.sentence(), scene.tags()]
    };
    let expected = [
        ["a photo of an orange fish in front of a red background", "fish, orange, red background, photo"],
        ["a textile print of a teal fish on a pink pattern", "fish, teal, pink background, print"],
        ["a line drawing of a fish on gray paper", "fish, gray background, drawing"],
    ];
    assert_eq!(Style::ALL.map(captions), expected);
}

#[test]
fn masks_boxes_and_keypoints_agree() {
    for style in Style::ALL {
        for seed in 0..20 {
            let scene = Scene::new(seed, &wanted(style, 3));
            let rendered = scene.render();
            let width = rendered.image.width;
            for (index, object) in scene.objects.iter().enumerate() {
                let [left, top, right, bottom] = rendered.boxes[index].unwrap();
                let own: Vec<usize> = (0..rendered.objects.pixels.len())
                    .filter(|&at| usize::from(rendered.objects.pixels[at]) == index + 1)
                    .collect();
                assert!(own.iter().all(|at| (left..=right).contains(&(at % width)) && (top..=bottom).contains(&(at / width))));
                let names = object.category().part_names().len();
                assert!(own.iter().all(|&at| (1..=names).contains(&usize::from(rendered.parts.pixels[at]))));
                assert!(own.len() > 60, "seed {seed}: {} pixels of a {}", own.len(), object.category().name);
                for ([x, y], visible) in
                    object.keypoints().into_iter().zip(&rendered.visible[index]).filter(|(_, visible)| **visible)
                {
                    let near = own
                        .iter()
                        .any(|at| (x - (at % width) as f64 - 0.5).abs() <= 1.5 && (y - (at / width) as f64 - 0.5).abs() <= 1.5);
                    assert!(near && *visible, "seed {seed}: a keypoint of a {} lies beside it", object.category().name);
                }
            }
        }
    }
}

#[test]
fn seeds_and_splits_share_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, seed| kohya::write(&folder.path().join(name), &DataSet { seed, ..data(Style::Photo) }, 3).unwrap();
    write("a", 0);
    write("b", 1);
    kohya::write_held_out(&folder.path().join("c/10_empty"), &DataSet { seed: 0, ..data(Style::Photo) }, 3).unwrap();
    let mut images: Vec<Vec<u8>> = Vec::new();
    for name in ["a", "b", "c"] {
        for (file, bytes) in testkit::files(&folder.path().join(name).join("10_empty")) {
            if file.ends_with(".png") {
                images.push(bytes);
            }
        }
    }
    assert_eq!(images.len(), 9);
    images.sort();
    images.dedup();
    assert_eq!(images.len(), 9);
}

#[test]
fn layouts_are_those_of_the_data_sets() {
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name);
    kohya::write(&here("kohya"), &data(Style::Print), 2).unwrap();
    spair::write(&here("spair"), &data(Style::Photo), spair::Counts { training: 2, validation: 1, test: 2 }).unwrap();
    ade20k::write(&here("ade"), &data(Style::Photo), 2, 1).unwrap();
    cityscapes::write(&here("city"), &data(Style::Photo), 1, 1).unwrap();
    let horse = CATEGORIES.iter().position(|category| category.name == "horse").unwrap();
    assert_eq!(label_scarce::write(&here("horse"), &data(Style::Drawing), horse, 2, 1).unwrap(), 10);

    for name in [
        "kohya/10_wd/00001.png",
        "kohya/10_wd/00001.txt",
        "kohya/10_empty/00000.txt",
        "spair/JPEGImages/fish/trn_000001.jpg",
        "spair/ImageAnnotation/chair/test_000014.json",
        "spair/Segmentation/boat/val_000004.png",
        "spair/Layout/small/test.txt",
        "ade/images/training/ADE_train_00000002.jpg",
        "ade/annotations/validation/ADE_val_00000001.png",
        "city/leftImg8bit/val/frankfurt/frankfurt_000000_000000_leftImg8bit.png",
        "city/gtFine/train/aachen/aachen_000000_000000_gtFine_labelIds.png",
        "horse/real/train/1.npy",
        "horse/real/test/0.png",
    ] {
        assert!(here(name).is_file(), "{name}");
    }
    let large = std::fs::read_to_string(here("spair/Layout/large/trn.txt")).unwrap();
    assert_eq!(large.lines().count(), 16, "two ordered pairs in each of eight categories");
    for pair in large.lines() {
        let text = std::fs::read_to_string(here(&format!("spair/PairAnnotation/trn/{pair}.json"))).unwrap();
        let pair: serde_json::Value = serde_json::from_str(&text).unwrap();
        let points = |key: &str| pair[key].as_array().unwrap().len();
        assert!(points("src_kps") > 0 && points("src_kps") == points("trg_kps") && points("kps_ids") == points("src_kps"));
        assert!(
            here(&format!("spair/JPEGImages/{}/{}", pair["category"].as_str().unwrap(), pair["src_imname"].as_str().unwrap()))
                .is_file()
        );
    }
    let labels = Image::open(here("ade/annotations/training/ADE_train_00000001.png")).unwrap();
    assert_eq!((labels.width(), labels.height()), (48, 48));
    let city = Image::open(here("city/leftImg8bit/train/aachen/aachen_000000_000000_leftImg8bit.png")).unwrap();
    assert_eq!((city.width(), city.height()), (96, 48));
    let found = ["kohya", "spair", "ade", "city", "horse"].map(|name| digest(&here(name)));
    assert_eq!(found, [187_924_500, 159_778_767, 2_095_522_325, 1_209_049_359, 55_537_365], "{found:?}");
}
