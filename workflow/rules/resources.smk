"""What a job requests (GPUs, cores, memory, time), and how it starts a program on them.

All of it goes into `resources` and `threads`, so that changing it reruns nothing.
"""

from dsrl.system.gpus import visible_gpus

HARDWARE = SETTINGS.resources
ON_CPU = HARDWARE.device == "cpu"

# Jobs go to a cluster if --jobs is given without --cores, which a dry run then sets to 1;
# `remote_exec` marks such a job. There the scheduler assigns GPUs and cores; elsewhere Snakemake and
# `dsrl with-gpus` do.
LIMITS = workflow.resource_settings
NO_CORES = LIMITS.cores is None or (workflow.output_settings.dryrun and LIMITS.cores == 1)
ON_CLUSTER = workflow.remote_exec or (LIMITS.nodes is not None and NO_CORES)
CORES = 8 if ON_CLUSTER else LIMITS.cores or 1
LOCAL_GPUS = [] if ON_CLUSTER or ON_CPU else visible_gpus()

# Without a limit, Snakemake treats `gpu` as unlimited.
if LOCAL_GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(LOCAL_GPUS))

if not ON_CLUSTER:
    usable = workflow.global_resources["gpu"].value if LOCAL_GPUS else 0
    hint = "" if LIMITS.nodes is None else "; on a cluster, leave out --cores"
    if HARDWARE.gpus_per_job > max(usable, 1):
        raise WorkflowError(
            f"gpus_per_job is {HARDWARE.gpus_per_job}; GPUs available: {usable}{hint}"
        )
    if HARDWARE.nodes > 1:
        raise WorkflowError(f"nodes is {HARDWARE.nodes}; without Slurm there is 1{hint}")


def gpu_threads(gpus=1):
    """Cores for a job with `gpus` GPUs: its share here; on a cluster, as many as it keeps busy."""
    if ON_CPU or not (LOCAL_GPUS or ON_CLUSTER):
        return min(CORES, HARDWARE.threads_per_job or CORES)
    if LOCAL_GPUS:
        return max(1, CORES * gpus // len(LOCAL_GPUS))
    return gpus * (1 + HARDWARE.num_workers)


def gpu_resources(gpus=1, nodes=1):
    """GPUs and nodes as the executors name them, and `launch`, the command that starts `dsrl`.

    `launch` replaces the shell (exec). Otherwise SIGTERM to the whole job would end the shell at
    once; Slurm would take the job as ended and kill a training that still writes its checkpoint.
    """
    processes = 1 if ON_CPU else gpus
    if nodes == 1:
        start = f"torchrun --standalone --nproc-per-node {processes} -m dsrl"
        start = start if processes > 1 else "dsrl"
        claim = f"dsrl with-gpus {gpus} " if LOCAL_GPUS else ""
        return {"gpu": None if ON_CPU else gpus, "launch": f"exec {claim}{start}"}
    return {
        # `gpu` counts the GPUs of all nodes together, `gres` those of each node.
        "gres": None if ON_CPU else f"gpu:{gpus}",
        "nodes": nodes,
        # Snakemake sees the first node only, from which srun starts all processes.
        "mpi": "srun",
        "tasks": nodes,
        "tasks_per_gpu": 0,
        "launch": f"exec srun --nodes {nodes} --ntasks {nodes} --cpus-per-task $OMP_NUM_THREADS"
        f" torchrun --nnodes {nodes} --nproc-per-node {processes} --rdzv-backend c10d"
        # A port per job, so that two jobs can share their first node.
        " --rdzv-endpoint $(hostname):$((20000 + SLURM_JOB_ID % 10000)) --rdzv-id $SLURM_JOB_ID"
        " -m dsrl",
    }


def train_options():
    """The settings in `resources` as options of `dsrl train`."""
    options = HARDWARE.model_dump(exclude={"gpus_per_job", "nodes", "threads_per_job", "compile"})
    texts = [f"--{key.replace('_', '-')} {value}" for key, value in options.items()]
    return " ".join([*texts, *(["--compile"] if HARDWARE.compile else [])])


def megapixels(run, images):
    """Output megapixels of `images` images; the network's work is proportional to them."""
    height, width = RUNS[run].data.output_size
    return images * height * width / 1e6


def train_memory(wildcards):
    """MB per node, with a margin. Measured: 4 GB for a process with CUDA, 0.2 GB for each of its
    loaders, and 1.5 GB per megapixel of a batch for ResNet-101 on the CPU."""
    processes = 4000 + 600 * HARDWARE.num_workers
    batch = recipe(wildcards).training.batch_size
    return int(HARDWARE.gpus_per_job * processes + 3000 * megapixels(wildcards.run, batch))


def train_time(wildcards, input):
    """Minutes of a stage, at most one day: clusters refuse more, and a stopped training resumes
    in the next attempt.

    ResNet-101 takes 8 s per megapixel on two cores (measured) and about 0.2 s on a GPU.
    """
    images = len(json.loads(Path(input.train).read_text())["samples"])
    warn_of_overlap(input.train, input.val)
    epochs = recipe(wildcards).training.epochs
    processed = megapixels(wildcards.run, images * epochs)
    processors = HARDWARE.nodes * (1 if ON_CPU else HARDWARE.gpus_per_job)
    seconds = processed * (20 if ON_CPU else 1) / processors
    return min(30 + int(seconds / 60), 24 * 60)


def scoring_time(wildcards, input):
    """Minutes to score a split: one pass over its images, forward only."""
    images = len(json.loads(Path(input.scored).read_text())["samples"])
    warn_of_overlap(input.train, input.scored)
    seconds = megapixels(wildcards.run, images) * (10 if ON_CPU else 0.5)
    return min(30 + int(seconds / 60), 24 * 60)


def evaluation_memory(wildcards):
    """MB to score or draw images, 8 at once; without gradients, less than in training."""
    return int(4000 + 1000 * megapixels(wildcards.run, 8))


def loading_memory(threads):
    """MB for `threads` threads or processes that draw, decode or resize images."""
    return 1000 + 250 * threads


def reading_time(wildcards, input):
    """Minutes to unpack archives, at 5 MB/s."""
    return 10 + int(input.size_mb / 300)
