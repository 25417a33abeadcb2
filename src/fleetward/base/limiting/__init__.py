"""What holds back who asks for too much. A limit names itself, and holds no more than it says."""
