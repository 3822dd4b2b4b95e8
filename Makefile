# Everything runs in .venv, which is made from the pinned requirements when it is missing and brought up to date when they change.
#   make demo TASK=push-far EPISODES=3 nodes, simulator and a report, over ROS 2; TASK: reach, push, push-far, wall
#   make test                          the test suite (adds training and checking tools to .venv)
# PYTHON=python3.12 picks an interpreter. TORCH_INDEX=<package index> is where torch's CPU wheels are looked for first.

TASK ?= push-far
EPISODES ?= 3
SEED ?= 0
OUT ?= runs/demo-$(TASK)-$(shell date +%Y%m%d-%H%M%S)
ARGS ?=
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
ROS := $(if $(ROS_DISTRO),$(shell python3 -c 'import rclpy' 2>/dev/null && echo native || echo wheels),wheels)
MADE := $(VENV)/.made-$(ROS)
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := arm_model planner_node ros_bridge ros_ws/src/latent_mpc/latent_mpc sim world_model

export PYTHON

.PHONY: demo test lint bench models model figures clean

demo: $(RUN)
	$(BIN)/latent-mpc demo --task $(TASK) --episodes $(EPISODES) --seed $(SEED) --out $(OUT) $(ARGS)

test: $(DEV)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)

# All stages and the peers beside them. ARGS="--scaling" for more, ARGS="--peers none" for less; without the peers, `latent-mpc bench` does, too.
bench: $(BENCH)
	$(BIN)/latent-mpc bench $(ARGS)

# Collects, trains and exports the shipped bundles from nothing: data/<name>[-looks], then runs/<name>, then models/<name>. About an hour and a half
# on two cores. TRAINING_SEED=1 trains another one of the same kind, beside it.
TRAINING_SEED ?= 0
RUN_NAME = $(MODEL)$(if $(filter-out 0,$(TRAINING_SEED)),-seed$(TRAINING_SEED))

models: $(DEV)
	$(MAKE) model MODEL=reach STEPS=60000
	$(MAKE) model MODEL=push STEPS=160000

model: $(DEV)
	$(BIN)/latent-mpc collect --task $(MODEL) --steps $(STEPS) --out data/$(MODEL)
	$(BIN)/latent-mpc collect --task $(MODEL) --steps $(STEPS) --randomise 0.7 --out data/$(MODEL)-looks
	$(BIN)/latent-mpc train --config world_model/configs/$(MODEL).yaml --seed $(TRAINING_SEED) --data data/$(MODEL) --looks data/$(MODEL)-looks --out runs/$(RUN_NAME)
	$(BIN)/latent-mpc export --model runs/$(RUN_NAME) --out $(if $(filter-out 0,$(TRAINING_SEED)),runs/bundles,models)/$(RUN_NAME)

# The figures of the README: 100 episodes x 3 seeds, with the references beside the planner. Without ROS, then reach through the nodes.
figures: $(RUN)
	$(BIN)/latent-mpc evaluate --model models/reach --task reach --seed 0 --seed 1 --seed 2 --manifest benchmarks/episodes/reach.json
	$(BIN)/latent-mpc evaluate --model models/push --task push --seed 0 --seed 1 --seed 2 --manifest benchmarks/episodes/push.json
	$(BIN)/latent-mpc evaluate --model models/push --task push-far --seed 0 --seed 1 --seed 2 --manifest benchmarks/episodes/push-far.json
	for task in push-wall push-disc; do $(BIN)/latent-mpc evaluate --model models/push --task $$task --seed 0 --manifest benchmarks/episodes/$$task.json --policy planner --policy planner_untold --policy actor --policy actor_slide --policy actor_stop; done
	for task in wall disc goal-disc; do $(BIN)/latent-mpc evaluate --untrained world_model/configs/reach.yaml --model models/reach --task $$task --seed 0 --policy planner --policy actor; done
	$(BIN)/latent-mpc robustness --model models/push --task push-far
	$(BIN)/latent-mpc surprise --model models/push --task push --events 100 --seed 1 --out runs/surprise-push
	$(BIN)/latent-mpc collect --task push --steps 40000 --seed 1 --out data/push-labels
	$(BIN)/latent-mpc head curve --model models/push --data data/push-labels --out runs/head-curve.json
	$(BIN)/latent-mpc evaluate --model models/reach --task wall --policy planner --policy actor --policy cem --manifest benchmarks/episodes/wall.json
	for task in disc goal-disc; do $(BIN)/latent-mpc evaluate --model models/reach --task $$task --seed 0 --policy planner --policy actor --policy actor_stop --policy actor_slide; done
	for how in --compensate --no-compensate; do $(BIN)/latent-mpc evaluate --model models/push --task push-far --episodes 50 --seed 7 --policy planner --delay 1 $$how; done
	for arm in panda_stick franka_panda kuka_iiwa xarm6 ur5e; do $(BIN)/latent-mpc hostile --robot $$arm --cycles 100000 --seed 0 --scene benchmarks/scenes/cell.yaml; done
	for seed in 0 1 2; do $(BIN)/latent-mpc demo --task reach --episodes 100 --seed $$seed --no-report --out runs/ros-reach-$$seed; done

# data/ and runs/ stay: they are work, not build outputs.
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis ros_ws/build ros_ws/install ros_ws/log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE): .ci/venv
	@bash .ci/venv $(VENV) $(ROS)
	@rm -f $(VENV)/.made-* && touch $@

$(RUN): $(MADE) requirements.txt requirements-ros.txt pyproject.toml
	@echo "Installing what running needs into $(VENV) (once; a few minutes) ..."
	@sed $(if $(filter native,$(ROS)),-e '/^-r requirements-ros/d',-e 's|^-r |&../|') requirements.txt > $(VENV)/requirements.txt
	@$(PIP) -r $(VENV)/requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) requirements-train.txt requirements-dev.txt
	@echo "Installing what training and checking need into $(VENV) (once; a few minutes) ..."
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements-train.txt -r requirements-dev.txt
	@touch $@

# The peers come without what they ask for: torchvision, lancedb and more are for what is not timed here.
$(BENCH): $(RUN) requirements-train.txt requirements-bench.txt
	@echo "Installing the peers of the bench into $(VENV) (once; a few minutes) ..."
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements-train.txt
	@$(PIP) --no-deps -r requirements-bench.txt
	@touch $@
