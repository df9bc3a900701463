"""Policy directories as LeRobot writes them: features, processors, statistics, prompts."""
