from proteus_router.cli import main

main()
