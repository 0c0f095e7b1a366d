//! The leading eigenvectors of a symmetric matrix without negative eigenvalues.
//!
//! Small matrices are decomposed whole, and so are those of which many vectors are wanted. Of large ones a few vectors come from a restarted
//! block Lanczos method with full reorthogonalization, run
//! until the residual says that the vectors are right to about ten digits; should it not get there, they are decomposed whole too.
//! (scikit-learn takes a randomized method with a fixed number of steps there, which is right to about five.)

use nalgebra::{DMatrix, DVector};

/// Up to this side a whole decomposition is faster.
const SMALL: usize = 400;
/// Vectors multiplied at once; more than are wanted, so that near neighbors do not hold the method up.
const BLOCK: usize = 8;
/// Up to so many are iterated, which leaves the rest of the block as neighbors.
const FEW: usize = 4;
/// Products between restarts.
const DEPTH: usize = 10;
/// Restarts before giving up.
const RESTARTS: usize = 100;
/// Largest residual, in parts of the largest eigenvalue.
const TOLERANCE: f64 = 1e-10;

/// Eigenvalues in falling order and their unit eigenvectors as columns.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// The values.
    pub values: Vec<f64>,
    /// The vectors.
    pub vectors: DMatrix<f64>,
}

/// The `count` largest eigenvalues with their vectors; fewer if the matrix is smaller.
pub fn leading(matrix: &DMatrix<f64>, count: usize) -> Eigen {
    let iterated = if matrix.nrows() > SMALL && count <= FEW { lanczos(matrix, count) } else { None };
    iterated.unwrap_or_else(|| whole(matrix, count))
}

fn whole(matrix: &DMatrix<f64>, count: usize) -> Eigen {
    let eigen = matrix.clone().symmetric_eigen();
    let order = falling(&eigen.eigenvalues);
    let order = &order[..count.min(order.len())];
    Eigen {
        values: order.iter().map(|i| eigen.eigenvalues[*i]).collect(),
        vectors: DMatrix::from_columns(&order.iter().map(|i| eigen.eigenvectors.column(*i)).collect::<Vec<_>>()),
    }
}

fn falling(values: &DVector<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// `None` if it does not converge.
fn lanczos(matrix: &DMatrix<f64>, count: usize) -> Option<Eigen> {
    let mut start = starting_block(matrix.nrows());
    for _ in 0..RESTARTS {
        let basis = krylov_basis(matrix, &start);
        let image = matrix * &basis;
        let small = (basis.transpose() * &image).symmetric_eigen();
        let order = falling(&small.eigenvalues);
        let kept: Vec<usize> = order.iter().copied().take(BLOCK).collect();
        let rotation = DMatrix::from_columns(&kept.iter().map(|i| small.eigenvectors.column(*i)).collect::<Vec<_>>());
        let vectors = &basis * &rotation;
        let values: Vec<f64> = kept.iter().map(|i| small.eigenvalues[*i]).collect();
        let image = image * rotation;
        let residual = |i: usize| (image.column(i) - vectors.column(i) * values[i]).norm();
        let wanted = count.min(kept.len());
        if (0..wanted).all(|i| residual(i) <= TOLERANCE * values[0].abs()) {
            return Some(Eigen { values: values[..wanted].to_vec(), vectors: vectors.columns(0, wanted).into_owned() });
        }
        start = vectors;
    }
    None
}

/// Fixed numbers without structure (a Weyl sequence), so that a run can be repeated.
fn starting_block(side: usize) -> DMatrix<f64> {
    let mut state = 0.0_f64;
    DMatrix::from_fn(side, BLOCK, |_, _| {
        state = (state + 0.754_877_666_246_692_7).fract();
        state * state - 1.0 / 3.0
    })
}

/// An orthonormal basis of the span of `start`, `matrix start`, `matrix^2 start`, ...
fn krylov_basis(matrix: &DMatrix<f64>, start: &DMatrix<f64>) -> DMatrix<f64> {
    let mut basis: Vec<DVector<f64>> = Vec::new();
    let mut block = start.clone();
    for _ in 0..DEPTH {
        let first_new = basis.len();
        for column in block.column_iter() {
            push_orthogonal(&mut basis, column.into_owned());
        }
        if basis.len() == first_new || basis.len() == matrix.nrows() {
            break;
        }
        block = matrix * DMatrix::from_columns(&basis[first_new..]);
    }
    DMatrix::from_columns(&basis)
}

/// Adds what a vector has outside of the basis; nothing if it has nothing.
fn push_orthogonal(basis: &mut Vec<DVector<f64>>, mut vector: DVector<f64>) {
    let before = vector.norm();
    // Twice is enough (Kahan and Parlett).
    for _ in 0..2 {
        for other in basis.iter() {
            let along = other.dot(&vector);
            vector.axpy(-along, other, 1.0);
        }
    }
    let left = vector.norm();
    if left > 1e-12 * before && left > 0.0 {
        basis.push(vector / left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gram(side: usize, spread: f64) -> DMatrix<f64> {
        let mut state = 0.25_f64;
        let vectors = DMatrix::from_fn(side, side, |_, _| {
            state = (state * 997.0 + 0.618).fract();
            state - 0.5
        })
        .qr()
        .q();
        let values = DVector::from_fn(side, |i, _| (-(i as f64) * spread).exp());
        &vectors * DMatrix::from_diagonal(&values) * vectors.transpose()
    }

    #[test]
    fn iterated_vectors_equal_the_whole_decomposition() {
        for spread in [0.5, 0.02] {
            let matrix = gram(430, spread);
            let (fast, exact) = (lanczos(&matrix, 3).unwrap(), whole(&matrix, 3));
            for i in 0..3 {
                assert!((fast.values[i] - exact.values[i]).abs() < 1e-10);
                // Vectors to about the residual over the gap between neighboring values.
                let cosine = fast.vectors.column(i).dot(&exact.vectors.column(i)).abs();
                assert!((cosine - 1.0).abs() < 1e-8, "{cosine}");
            }
        }
    }

    #[test]
    fn ranks_below_the_block() {
        let direction = DVector::from_fn(450, |i, _| (i as f64).sin());
        let matrix = &direction * direction.transpose();
        let eigen = leading(&matrix, 3);
        assert!((eigen.values[0] - direction.norm_squared()).abs() < 1e-9);
        assert!(eigen.values[1].abs() < 1e-9);
        assert_eq!(leading(&DMatrix::zeros(450, 450), 3).values, [0.0; 3]);
    }
}
