//! The slot of a layer that adapters sit in, and the list of all slots of a network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use candle_core::Tensor;

use crate::adapter::{Adapter, LayerShape, merged_bias, merged_weight};
use crate::{Error, Result};

/// A layer's frozen weight and the adapters on it. Adapters can be swapped while the network is in use elsewhere.
#[derive(Debug)]
pub struct Slot {
    kind: LayerShape,
    weight: RwLock<Tensor>,
    bias: RwLock<Option<Tensor>>,
    adapters: RwLock<Vec<Arc<Adapter>>>,
}

impl Slot {
    pub(super) fn new(kind: LayerShape, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { kind, weight: RwLock::new(weight), bias: RwLock::new(bias), adapters: RwLock::default() }
    }

    /// The layer's kind and sizes.
    pub fn kind(&self) -> LayerShape {
        self.kind
    }

    /// The frozen weight in its storage type.
    pub fn weight(&self) -> Tensor {
        // A panic elsewhere cannot leave a half-written tensor behind the lock, so a poisoned lock is still good.
        self.weight.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The frozen bias, in the compute type, where the layer has one.
    pub fn bias(&self) -> Option<Tensor> {
        self.bias.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The adapters now in force.
    pub fn adapters(&self) -> Vec<Arc<Adapter>> {
        self.adapters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an adapter fits this layer; `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] when its matrices have other sizes.
    pub fn check(&self, path: &str, adapter: &Adapter) -> Result<()> {
        self.fit(path, adapter.clone()).map(drop)
    }

    fn fit(&self, path: &str, adapter: Adapter) -> Result<Adapter> {
        adapter.fitted(self.kind).map_err(|misfit| Error::argument(format!("adapter on `{path}`"), misfit))
    }

    /// Adds an adapter after those in force; `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] when the adapter's matrices do not fit this layer.
    pub fn attach(&self, path: &str, adapter: Adapter) -> Result<()> {
        let adapter = self.fit(path, adapter)?;
        self.adapters.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(adapter));
        Ok(())
    }

    /// Removes every adapter.
    pub fn detach(&self) {
        self.adapters.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds every adapter's change to the frozen weight and bias (computed in float32, rounded once to the storage type) and removes
    /// them. Each changes the weight as it was before, as attached adapters do.
    ///
    /// # Errors
    /// When a tensor operation fails; the layer is as it was then.
    pub fn merge(&self) -> Result<()> {
        let mut weight = self.weight.write().unwrap_or_else(PoisonError::into_inner);
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        let mut bias = self.bias.write().unwrap_or_else(PoisonError::into_inner);
        let merged = merged_weight(&weight, &adapters)?.to_dtype(weight.dtype())?;
        if let Some(changed) = merged_bias(bias.as_ref(), &adapters)? {
            let dtype = bias.as_ref().map_or(changed.dtype(), Tensor::dtype);
            *bias = Some(changed.to_dtype(dtype)?);
        }
        *weight = merged;
        adapters.clear();
        Ok(())
    }

    /// A norm's scale and shift with the changes of the adapters in force.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn changed(&self) -> Result<(Tensor, Tensor)> {
        let (weight, adapters) = (self.weight(), self.adapters());
        // Every norm is made with a shift.
        let bias = self.bias().map_or_else(|| weight.zeros_like(), Ok)?;
        if adapters.is_empty() {
            return Ok((weight, bias));
        }
        let changed = merged_bias(Some(&bias), &adapters)?.map_or(Ok(bias), |changed| changed.to_dtype(weight.dtype()))?;
        Ok((merged_weight(&weight, &adapters)?.to_dtype(weight.dtype())?, changed))
    }
}

/// Every adapter slot of a network by module path, in the order of the paths.
#[derive(Clone, Default, Debug)]
pub struct Slots {
    by_path: Arc<Mutex<BTreeMap<String, Arc<Slot>>>>,
}

impl Slots {
    pub(super) fn insert(&self, path: String, slot: Slot) -> Arc<Slot> {
        let slot = Arc::new(slot);
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner).insert(path, slot.clone());
        slot
    }

    /// The slot at `path`, for instance `mid_block.attentions.0.proj_in`.
    pub fn get(&self, path: &str) -> Option<Arc<Slot>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// All slots with their paths.
    pub fn all(&self) -> Vec<(String, Arc<Slot>)> {
        self.by_path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(path, slot)| (path.clone(), slot.clone()))
            .collect()
    }

    /// All module paths.
    pub fn paths(&self) -> Vec<String> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Removes every adapter of the network.
    pub fn detach_all(&self) {
        self.all().iter().for_each(|(_, slot)| slot.detach());
    }

    /// Merges every adapter of the network into its weight.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn merge_all(&self) -> Result<()> {
        self.all().iter().filter(|(_, slot)| !slot.adapters().is_empty()).try_for_each(|(_, slot)| slot.merge())
    }
}
