use candle_core::{Device, Tensor, Var};
use driftless::ops::{self, Mask, Padding};
use std::time::Instant;
fn t(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}
fn cpu() -> f64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|t| {
            let s = std::fs::read_to_string(t.unwrap().path().join("schedstat")).unwrap();
            s.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
        })
        .sum()
}
fn time(name: &str, f: impl Fn()) {
    f();
    let mut times = vec![];
    let mut cpus = vec![];
    for _ in 0..15 {
        let c = cpu();
        let s = Instant::now();
        f();
        times.push(s.elapsed().as_secs_f64() * 1e3);
        cpus.push((cpu() - c) / 2.0);
    }
    times.sort_by(f64::total_cmp);
    cpus.sort_by(f64::total_cmp);
    println!("{name:40} min {:8.2} ms  median {:8.2} ms   cpu/2 min {:8.2} median {:8.2}", times[0], times[7], cpus[0], cpus[7]);
}
fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let run = |name: &str, f: &dyn Fn()| {
        if name.contains(&filter) {
            time(name, f)
        }
    };
    for (ci, co, hw) in [(320, 320, 64), (640, 640, 32), (1280, 1280, 16), (1280, 1280, 8), (2560, 1280, 16)] {
        let (x, w, b) = (t(&[1, ci, hw, hw]), t(&[co, ci, 3, 3]), t(&[co]));
        run(&format!("conv3x3 {ci}->{co} @{hw}"), &|| {
            ops::conv2d(&x, &w, Some(&b), 1, Padding::same(1)).unwrap();
        });
        if ci == 320 {
            run("conv3x3 stride2 320@64", &|| {
                ops::conv2d(&x, &w, Some(&b), 2, Padding::same(1)).unwrap();
            });
            let v = Var::from_tensor(&x).unwrap();
            for s in [1, 2] {
                let y = ops::conv2d(&v, &w, Some(&b), s, Padding::same(1)).unwrap();
                let g = y.ones_like().unwrap();
                let loss = (y * g).unwrap().sum_all().unwrap();
                run(&format!("conv3x3 320@64 stride {s} input gradient"), &|| {
                    loss.backward().unwrap();
                });
            }
        }
    }
    {
        let (x, w, b) = (t(&[1, 320, 64, 64]), t(&[320, 320, 1, 1]), t(&[320]));
        run("conv1x1 320@64", &|| {
            ops::conv2d(&x, &w, Some(&b), 1, Padding::same(0)).unwrap();
        });
        let r = t(&[64, 320, 3, 3]);
        let r = Var::from_tensor(&r).unwrap();
        let loss = ops::conv2d_trainable(&x, &r, 1, Padding::same(1)).unwrap().sum_all().unwrap();
        run("conv3x3 320->64@64 weight gradient", &|| {
            loss.backward().unwrap();
        });
    }
    {
        let (x, w, b) = (t(&[1, 128, 256, 256]), t(&[128, 128, 3, 3]), t(&[128]));
        run("conv3x3 128@256", &|| {
            ops::conv2d(&x, &w, Some(&b), 1, Padding::same(1)).unwrap();
        });
    }
    for (n, ci, co) in [
        (4096, 320, 320),
        (4096, 320, 2560),
        (4096, 1280, 320),
        (1024, 640, 5120),
        (256, 1280, 10240),
        (64, 1280, 1280),
        (77, 768, 320),
    ] {
        let (x, w, b) = (t(&[1, n, ci]), t(&[co, ci]), t(&[co]));
        run(&format!("linear {n} {ci}->{co}"), &|| {
            ops::linear(&x, &w, Some(&b)).unwrap();
        });
    }
    for (n, m, d) in [(4096, 4096, 40), (1024, 1024, 80), (4096, 77, 40), (256, 256, 160)] {
        let (q, k, v) = (t(&[1, n, 8 * d]), t(&[1, m, 8 * d]), t(&[1, m, 8 * d]));
        run(&format!("attention 8x{n}x{m}x{d}"), &|| {
            ops::attention(&q, &k, &v, 8, Mask::None).unwrap();
        });
        if m == n && n >= 1024 {
            let qv = Var::from_tensor(&q).unwrap();
            let loss = ops::attention(&qv, &k, &v, 8, Mask::None).unwrap().sum_all().unwrap();
            run(&format!("attention 8x{n}x{m}x{d} backward"), &|| {
                loss.backward().unwrap();
            });
        }
        run(&format!("probabilities mean 8x{n}x{m}x{d}"), &|| {
            ops::attention_probabilities_mean(&q, &k, 8).unwrap();
        });
    }
    {
        let (x, w, b) = (t(&[1, 320, 64, 64]), t(&[320]), t(&[320]));
        run("groupnorm silu 320@64", &|| {
            ops::group_norm(&x, &w, &b, 32, 1e-5, true).unwrap();
        });
        run("groupnorm 320@64", &|| {
            ops::group_norm(&x, &w, &b, 32, 1e-5, false).unwrap();
        });
        let v = Var::from_tensor(&x).unwrap();
        let loss = ops::group_norm(&v, &w, &b, 32, 1e-5, true).unwrap().sum_all().unwrap();
        run("groupnorm silu 320@64 backward", &|| {
            loss.backward().unwrap();
        });
        let x = t(&[1, 4096, 320]);
        run("layernorm 4096x320", &|| {
            ops::layer_norm(&x, &w, &b, 1e-5).unwrap();
        });
        let x = t(&[1, 4096, 2560]);
        run("geglu 4096x2560", &|| {
            ops::geglu(&x).unwrap();
        });
        run("silu 10M", &|| {
            ops::silu(&x).unwrap();
        });
        let x = t(&[1, 640, 32, 32]);
        run("upsample 640@32", &|| {
            ops::upsample_nearest(&x, 64, 64).unwrap();
        });
    }
}
