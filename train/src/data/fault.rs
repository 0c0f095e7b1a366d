//! What can be wrong with a data set.

use std::path::PathBuf;

/// Why a data set cannot be read or planned. The file or table with the fault is named by the context that is added to it.
#[derive(Debug, thiserror::Error)]
pub enum DataFault {
    #[error("no data set; give --train_data_dir (a folder of folders called REPEATS_name) or --dataset_config")]
    NoDataSet,
    #[error("the batch size is 0; it must be at least 1")]
    NoBatchSize,
    #[error("all images in {} are held back for validation; lower validation_split", list(folders))]
    AllHeldBack { folders: Vec<PathBuf> },
    #[error("no training images (png, jpg, jpeg, webp, bmp, tif, tiff) in {}", list(folders))]
    NoImages { folders: Vec<PathBuf> },
    #[error("{}: is now {}x{} pixels and was {}x{}; it was changed during the run", path.display(), found.0, found.1, expected.0, expected.1)]
    SizeChanged { path: PathBuf, found: (usize, usize), expected: (usize, usize) },
    #[error("--caption_extension `{found}`: expected the end of a file's name, such as .txt")]
    CaptionExtension { found: String },
    #[error(
        "{}: the images with their repeats are more than {most} in an epoch; repeat them less often, and train more epochs",
        folder.display()
    )]
    TooManyDraws { folder: PathBuf, most: usize },
    #[error("caption file {} is not UTF-8; save it again in that encoding", path.display())]
    CaptionNotUtf8 { path: PathBuf },

    #[error("{} holds the images themselves; give the folder above it: --{option} {}", folder.display(), above.display())]
    FolderOfImages { folder: PathBuf, option: String, above: PathBuf },
    #[error("{folder} holds {images} images itself; {}; move them into {folder}/10_{name}", expected_folders(option, folder))]
    ImagesBesideFolders { folder: String, option: String, images: usize, name: String },
    #[error(
        "{folder} has no subfolder whose name begins with a number of repeats; {}; rename {name} to 10_{name}, for instance",
        expected_folders(option, folder)
    )]
    NoRepeats { folder: String, option: String, name: String },
    #[error("{folder} is empty; {}", expected_folders(option, folder))]
    EmptyFolder { folder: String, option: String },

    #[error("bucket_reso_steps is {found}; it must be a multiple of 8")]
    BucketSteps { found: usize },
    #[error("min_bucket_reso is {found}; it must be at least bucket_reso_steps, {least}")]
    SmallestBucket { found: usize, least: usize },
    #[error("min_bucket_reso is {found}; it must not be larger than the resolution's shorter side, {most}")]
    SmallestBucketTooLarge { found: usize, most: usize },
    #[error("max_bucket_reso is {found}; it must not be smaller than the resolution's longer side, {least}")]
    LargestBucketTooSmall { found: usize, least: usize },
    #[error("max_bucket_reso is {side} and bucket_reso_steps {step}; neither may be larger than {most}")]
    BucketsTooLarge { side: usize, step: usize, most: usize },
    #[error("the image is empty")]
    EmptyImage,
    #[error(
        "{width}x{height} pixels are too few or too narrow for a bucket with sides in steps of {step}; leave the image out, or leave \
         out bucket_no_upscale"
    )]
    TooSmall { width: usize, height: usize, step: usize },

    #[error("there is no [[datasets]] in it")]
    NoDatasets,
    #[error("there is no [[datasets.subsets]] in it")]
    NoSubsets,
    #[error("metadata_file is not supported; give image_dir and caption files")]
    MetadataFile,
    #[error("conditioning_data_dir is not supported")]
    Conditioning,
    #[error("alpha_mask is not supported: the loss counts every pixel alike")]
    AlphaMask,
    #[error("`image_dir` is missing")]
    NoImageDir,
    #[error("{key} is {found}; it must be from 0 to 1")]
    NotAShare { key: &'static str, found: f64 },
    #[error("resize_interpolation `{found}` is not supported; there are lanczos, area, box and nearest")]
    Interpolation { found: String },
    #[error("caption_separator is empty")]
    NoSeparator,
    #[error("`{key}` cannot stand in {section}")]
    Elsewhere { key: String, section: String },
    #[error("`{key}` in {section} cannot be {found}")]
    WrongType { key: String, section: String, found: serde_json::Value },
    #[error("{section} is not a table")]
    NotATable { section: String },
    #[error("{section} is not a list of tables; write it in double brackets")]
    NotAList { section: String },
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn expected_folders(option: &str, folder: &str) -> String {
    format!("--{option} names the folder above folders that are called REPEATS_name, like {folder}/10_photo/1.png")
}
