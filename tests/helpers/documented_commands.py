"""Which test runs which command of the documentation."""

from __future__ import annotations

# What a command begins with, and the test that runs it as the page has it, or in small, or shows
# its plan. The longest beginning that fits counts. A person runs the commands of BY_HAND.
BY_HAND = None
# These install gigabytes or run for hours: .ci/run and .ci/fresh run them, or a person.
MAKE = 'project/test_documentation.py::test_make_help_lists_every_command'
RUN_BY = {
    '.venv/bin/python -m pytest tests': BY_HAND,
    'MMDET=': 'project/test_own_data_page.py::test_mmdet_plots_logs',
    'dsnet-mm app': 'app/test_page.py::test_two_visitors_detect_move_the_score_click_and_stop',
    'dsnet-mm benchmark': 'analysis/test_benchmark.py::test_command',
    'dsnet-mm check-data': 'project/test_own_data_page.py::test_convert_and_check',
    'dsnet-mm compare': 'cli/test_compare.py::test_what_the_docs_tell_to_type',
    'dsnet-mm convert-data': 'project/test_own_data_page.py::test_convert_and_check',
    'dsnet-mm convert-data coco': 'data/test_dividing_coco.py::test_printed_counts_and_settings',
    'dsnet-mm demo': 'cli/test_demo.py::test_demo',
    'dsnet-mm doctor': 'project/test_readme.py::test_doctor',
    'dsnet-mm export': 'deploy/test_export.py::test_the_documented_commands',
    'dsnet-mm info': 'analysis/test_model_info.py::test_documentation_shows_what_the_tool_makes',
    'dsnet-mm info configs/segmentation': 'project/test_segmentation.py::test_info_command',
    'dsnet-mm new-config': 'engine/test_finetune_config.py::test_all_settings_follow',
    'dsnet-mm predict': 'project/test_own_data_page.py::test_detect',
    'dsnet-mm predict model.onnx': 'deploy/test_graph.py::test_the_documented_commands',
    'dsnet-mm predict retinanet.onnx': 'deploy/test_graph.py::test_the_documented_commands',
    'dsnet-mm shapes': 'project/test_pretrain.py::test_commands',
    'dsnet-mm shapes --task segmentation': 'project/test_segmentation.py::test_commands',
    'dsnet-mm streams': 'analysis/test_streams.py::test_the_command',
    'dsnet-mm test': 'project/test_own_data_page.py::test_train_and_test',
    'dsnet-mm test configs/pretrain': 'project/test_pretrain.py::test_commands',
    'dsnet-mm test configs/retinanet': 'project/test_readme.py::test_commands',
    'dsnet-mm test retinanet.onnx': 'deploy/test_graph.py::test_the_documented_commands',
    'dsnet-mm test configs/segmentation': 'project/test_segmentation.py::test_commands',
    'dsnet-mm train': 'project/test_own_data_page.py::test_train_and_test',
    'dsnet-mm train configs/memorize': 'project/test_memorize.py::test_train',
    'dsnet-mm train configs/pretrain': 'project/test_pretrain.py::test_commands',
    'dsnet-mm train configs/retinanet': 'project/test_readme.py::test_commands',
    'dsnet-mm train configs/segmentation': 'project/test_segmentation.py::test_commands',
    'dsnet-mm weights': 'project/test_weights_page.py::test_commands_and_configs',
    'dsnet-mm weights --from glnet': 'weights/test_glnet_conversion.py::test_documented_command',
    'make bench': MAKE,
    'make compare': MAKE,
    'make demo': 'cli/test_demo.py::test_demo',
    'make env': MAKE,
    'make full': MAKE,
    'make help': MAKE,
    'make lint': MAKE,
    'make lock': MAKE,
    'make quick': MAKE,
    'make test': MAKE,
    'make test-models': MAKE,
    'pip install "setuptools<81"': (
        'test_environment.py::test_official_mmengine_needs_pkg_resources'
    ),
    'pip install .': 'project/test_installed.py::test_a_config_with_nothing_but_the_backbone',
    'pip install ".[app]"': (
        'project/test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install ".[export]"': (
        'project/test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install ".[openvino]"': (
        'project/test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install ".[segmentation]"': (
        'project/test_installed.py::test_installing_the_wheel_brings_no_torch_but_for_extras'
    ),
    'pip install pre-commit': BY_HAND,
    'pip install seaborn': 'project/test_own_data_page.py::test_mmdet_plots_logs',
    'pip install tensorboard': (
        'project/test_own_data_page.py::test_documented_settings_of_tensorboard'
    ),
    'python $MMDET/.mim/tools/analysis_tools': (
        'project/test_own_data_page.py::test_mmdet_plots_logs'
    ),
    'python -c "import dsnet_mm; print(dsnet_mm.configs_dir())"': (
        'project/test_readme.py::test_the_folder_of_the_configs'
    ),
    'python -m pytest tests -k golden': 'project/test_weights_page.py::test_commands_and_configs',
    'python docs/draw_block.py': 'project/test_documentation.py::test_the_diagrams_are_up_to_date',
    'python docs/try_detectors.py': (
        'project/test_other_detectors_page.py::test_the_command_writes_the_table'
    ),
    'python docs/measure_export.py': 'deploy/test_equality.py::test_the_table_of_the_docs',
    'source .venv/bin/activate': BY_HAND,
    'tools/dist_test.sh': (
        'engine/test_distributed.py::test_two_processes_evaluate_every_image_once'
    ),
    'tools/dist_train.sh': (
        'engine/test_distributed.py::test_two_processes_train_as_one_on_the_doubled_batch'
    ),
    'tools/slurm_train.sh': 'engine/test_distributed.py::test_scripts_of_clusters_start',
    'torchrun': 'project/test_pretrain.py::test_commands',
}


def beginning(command: str) -> str | None:
    return max((key for key in RUN_BY if command.startswith(key)), key=len, default=None)
