# vla_pruner_ros on a desktop GPU: ROS 2 Jazzy on Ubuntu 24.04, torch for CUDA from PyPI.
#   docker build -f docker/desktop.Dockerfile -t vla_pruner_ros .
#   docker run --rm --gpus all --network host --ipc host vla_pruner_ros vla_pruner_doctor
FROM ros:jazzy-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
       python3-venv ros-jazzy-cv-bridge \
    && rm -rf /var/lib/apt/lists/*

# A virtual environment that sees ROS: Ubuntu 24.04 refuses pip outside of one.
RUN python3 -m venv --system-site-packages /opt/vla_pruner
ENV PATH=/opt/vla_pruner/bin:$PATH

WORKDIR /ws
COPY package.xml setup.cfg requirements.txt src/vla_pruner_ros/
# ROS comes with the image, and the simulator stays out of it.
RUN grep -E '^(torch|transformers|safetensors|huggingface_hub|tokenizers|pillow|simplejpeg|Jinja2|tqdm|torchao|websockets|msgpack|prometheus-client|rosbags|av|PyYAML)==' \
       src/vla_pruner_ros/requirements.txt > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt

COPY . src/vla_pruner_ros
RUN . /opt/ros/jazzy/setup.bash \
    && colcon build --packages-select vla_pruner_ros \
       --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=/opt/vla_pruner/bin/python3

COPY docker/entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["vla_pruner_doctor"]
