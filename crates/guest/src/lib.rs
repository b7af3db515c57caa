// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest side of Xen event channels, for kernels and unikernels
