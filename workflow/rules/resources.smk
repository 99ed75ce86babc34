"""What a job asks for: GPUs, cores, memory, time; and how a program that uses them is started.

All of it goes into `resources` and `threads`, whose change is no reason to run a job again.
"""

from dsrl.system.gpus import visible_gpus

HARDWARE = SETTINGS.resources
ON_CPU = HARDWARE.device == "cpu"

# Jobs go to a cluster where --jobs is given in place of --cores, and a job that came from there is
# on one. Its scheduler assigns GPUs and cores; elsewhere Snakemake and `dsrl with-gpus` do.
ON_CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes is not None
CORES = 8 if ON_CLUSTER else workflow.resource_settings.cores or 1
LOCAL_GPUS = [] if ON_CLUSTER or ON_CPU else visible_gpus()

# Snakemake takes `gpu` for unlimited where nobody limits it.
if LOCAL_GPUS and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(LOCAL_GPUS))

if not ON_CLUSTER:
    usable = workflow.global_resources["gpu"].value if LOCAL_GPUS else 0
    if HARDWARE.gpus_per_job > max(usable, 1):
        raise WorkflowError(f"gpus_per_job is {HARDWARE.gpus_per_job}; GPUs to use here: {usable}")
    if HARDWARE.nodes > 1:
        raise WorkflowError(f"nodes is {HARDWARE.nodes}; without Slurm there is 1")


def gpu_threads(gpus=1):
    """Cores for a job with so many GPUs: its share here, on a cluster those that it keeps busy."""
    if LOCAL_GPUS:
        return max(1, CORES * gpus // len(LOCAL_GPUS))
    return CORES if ON_CPU or not ON_CLUSTER else gpus * (1 + HARDWARE.num_workers)


def gpu_resources(gpus=1, nodes=1):
    """GPUs and nodes in the words of the executors, and `launch`, how `dsrl` is started on them.

    It takes the place of the shell: SIGTERM to the whole job would end the shell at once, for which
    Slurm would take the job, and kill a training that is still writing its checkpoint.
    """
    processes = 1 if ON_CPU else gpus
    if nodes == 1:
        start = f"torchrun --standalone --nproc-per-node {processes} -m dsrl"
        start = start if processes > 1 else "dsrl"
        claim = f"dsrl with-gpus {gpus} " if LOCAL_GPUS else ""
        return {"gpu": None if ON_CPU else gpus, "launch": f"exec {claim}{start}"}
    return {
        # `gpu` would be a number for all nodes together, `gres` is one for each.
        "gres": None if ON_CPU else f"gpu:{gpus}",
        "nodes": nodes,
        # To Snakemake the whole job is the first node's, from which the shell starts all.
        "mpi": "srun",
        "tasks": nodes,
        "tasks_per_gpu": 0,
        "launch": f"exec srun --nodes {nodes} --ntasks {nodes} --cpus-per-task $OMP_NUM_THREADS"
        f" torchrun --nnodes {nodes} --nproc-per-node {processes} --rdzv-backend c10d"
        # The port: another for each job, so that two can share their first node.
        " --rdzv-endpoint $(hostname):$((20000 + SLURM_JOB_ID % 10000)) --rdzv-id $SLURM_JOB_ID"
        " -m dsrl",
    }


def train_options():
    """The settings in `resources` as options of `dsrl train`."""
    options = HARDWARE.model_dump(exclude={"gpus_per_job", "nodes", "compile"})
    texts = [f"--{key.replace('_', '-')} {value}" for key, value in options.items()]
    return " ".join([*texts, *(["--compile"] if HARDWARE.compile else [])])


def megapixels(run, images):
    """Millions of pixels of so many outputs of the network, to which its work is in proportion."""
    height, width = RUNS[run].data.output_size
    return images * height * width / 1e6


def train_memory(wildcards):
    """MB of one node: a process takes 4 GB with CUDA, each of its loaders 0.2, and ResNet-101 on
    the CPU 1.5 for each megapixel of a batch (measured); here with something to spare."""
    processes = 4000 + 600 * HARDWARE.num_workers
    batch = recipe(wildcards).training.batch_size
    return int(HARDWARE.gpus_per_job * processes + 3000 * megapixels(wildcards.run, batch))


def train_time(wildcards, input):
    """Minutes of a stage, one day at most: clusters refuse more, and a training that is stopped
    goes on in the next attempt.

    ResNet-101 takes 8 s for a megapixel on two cores (measured) and about 0.2 s on a GPU.
    """
    images = len(json.loads(Path(input.train).read_text())["samples"])
    epochs = recipe(wildcards).training.epochs
    processed = megapixels(wildcards.run, images * epochs)
    processors = HARDWARE.nodes * (1 if ON_CPU else HARDWARE.gpus_per_job)
    seconds = processed * (20 if ON_CPU else 1) / processors
    return min(30 + int(seconds / 60), 24 * 60)


def scoring_time(wildcards, input):
    """Minutes to score a split: one pass over its images, forward only."""
    images = len(json.loads(Path(input.scored).read_text())["samples"])
    seconds = megapixels(wildcards.run, images) * (10 if ON_CPU else 0.5)
    return min(30 + int(seconds / 60), 24 * 60)


def evaluation_memory(wildcards):
    """MB to score or picture images, 8 at once; without gradients they take less than in training."""
    return int(4000 + 1000 * megapixels(wildcards.run, 8))


def loading_memory(threads):
    """MB for so many threads or processes that draw, decode or resize images."""
    return 1000 + 250 * threads


def reading_time(wildcards, input):
    """Minutes to unpack archives, at 5 MB/s."""
    return 10 + int(input.size_mb / 300)
