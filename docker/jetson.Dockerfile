# vla_pruner_ros on a Jetson Orin with JetPack 6 (L4T r36, Ubuntu 22.04): ROS 2 Humble, NVIDIA's torch.
#   docker build -f docker/jetson.Dockerfile -t vla_pruner_ros:jetson .
#   docker run --rm --runtime nvidia --network host --ipc host vla_pruner_ros:jetson vla_pruner_doctor
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

# The index of NVIDIA's wheels for this JetPack; docs/how-to/jetson.md says where to find it.
ARG TORCH_INDEX
ARG TORCH=torch

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
       ca-certificates curl gnupg \
    && curl -fsSL https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
       -o /usr/share/keyrings/ros-archive-keyring.gpg \
    && echo "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] http://packages.ros.org/ros2/ubuntu jammy main" \
       > /etc/apt/sources.list.d/ros2.list \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
       build-essential cmake python3-colcon-common-extensions python3-venv \
       ros-humble-cv-bridge ros-humble-ros-base \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv --system-site-packages /opt/vla_pruner
ENV PATH=/opt/vla_pruner/bin:$PATH \
    ROS_DISTRO=humble

# NVIDIA's wheel first: pip's own torch for aarch64 has no CUDA.
RUN test -n "$TORCH_INDEX" || { echo "give --build-arg TORCH_INDEX=..., see docs/how-to/jetson.md" >&2; exit 1; }
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$TORCH"

WORKDIR /ws
COPY package.xml setup.cfg requirements.txt src/vla_pruner_ros/
RUN grep -E '^(transformers|safetensors|huggingface_hub|tokenizers|pillow|simplejpeg|Jinja2|tqdm|websockets|msgpack|prometheus-client|rosbags|PyYAML)==' \
       src/vla_pruner_ros/requirements.txt > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt

COPY . src/vla_pruner_ros
RUN . /opt/ros/humble/setup.bash \
    && colcon build --packages-select vla_pruner_ros \
       --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=/opt/vla_pruner/bin/python3

COPY docker/entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["vla_pruner_doctor"]
