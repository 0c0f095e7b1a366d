//! What features are worth: the downstream tasks. Nothing lives here yet.
//!
//! To come, a module each, over the crate `features` and without a command line or printing:
//!
//! - `score`: how far features drift between noise draws and from the image's own;
//! - `correspondence`: keypoints found again in another image (SPair-71k, PCK);
//! - `label_scarce`: segmentation from a few dozen labeled images, one classifier per pixel;
//! - `segmentation`: semantic segmentation on whole data sets;
//! - `gate`: the learned amalgamation of several feature sets;
//! - `report`: results as JSON, CSV and HTML.
